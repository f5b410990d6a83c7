/** The page: what is asked for when, and what becomes of the answers. */

import { showAnswer, showProblem } from "./answer.js";
import { Api, Refusal, pause } from "./api.js";
import { changesOf, showChanges, tried } from "./changes.js";
import { showWorth } from "./curve.js";
import { byId, tell } from "./elements.js";
import { Form } from "./form.js";
import { List } from "./list.js";
import { Results } from "./results.js";
import { PREDICT, customerOf } from "./schema.js";

const REST = 0.12;
const LONGER_REST = 0.3;
const REASONS = 4;

const api = new Api(askForKey);

/**
 * Ask the user for a key.
 * @param {boolean} refused Whether one was refused.
 * @returns {Promise<string>}
 */
function askForKey(refused) {
  const section = byId("key");
  const input = /** @type {HTMLInputElement} */ (byId("key-input"));
  section.hidden = false;
  byId("key-error").textContent = refused ? "The service does not know this key." : "";
  input.value = "";
  input.focus();
  return new Promise((resolve) => {
    byId("key-form").onsubmit = (event) => {
      event.preventDefault();
      const key = input.value.trim();
      // What no header can carry is no key.
      if (!/^[\x21-\x7e]+$/.test(key)) {
        byId("key-error").textContent = "A key is letters, digits and signs, without spaces.";
        return;
      }
      input.value = "";
      section.hidden = true;
      resolve(key);
    };
  });
}

/** Load what the page is made of, then answer for the example. */
async function start() {
  byId("start").hidden = true;
  try {
    const [document, { policy, policy_version: version }, model] = await Promise.all([
      api.get("openapi.json"), api.get("api/v2/policy"), api.get("metrics/model"),
    ]);
    const { fields, example } = customerOf(document);
    byId("versions").textContent = `Model ${model.model_tag ?? model.model_version}, policy ${version}.`;
    const form = new Form(/** @type {HTMLFormElement} */ (byId("fields")), fields, example, () => estimate(form));
    showWorth(model, policy);
    new List(api, fields, example, new Results(policy, version));
    for (const section of ["customer", "worth", "list"]) byId(section).hidden = false;
    await estimate(form, 0);
  } catch (error) {
    if (!(error instanceof Refusal)) console.error(error);
    tell("start-problem", error instanceof Refusal ? error.message : "This page does not understand the service's description of itself.");
    byId("start").hidden = false;
  }
}

let asking = new AbortController();

/**
 * Ask for the estimate once the fields rest; what was asked before is of no interest any more.
 * @param {Form} form
 * @param {number} [rest] In seconds.
 */
async function estimate(form, rest = REST) {
  asking.abort();
  const { signal } = (asking = new AbortController());
  try {
    await pause(rest, signal);
    const { customer, value } = form;
    const body = {
      customer, what_if: true, max_reasons: REASONS, ...(value === undefined ? {} : { customer_value: value }),
    };
    const answer = await api.postPatiently(PREDICT, body, signal, (seconds) => showProblem(`The service is busy; asking again in ${seconds} s.`));
    form.showErrors([]);
    showAnswer(answer);
    await pause(rest && LONGER_REST, signal);
    showChanges(answer, await tried(api, changesOf(form.fields, customer), value, signal));
  } catch (error) {
    if (signal.aborted) return;
    if (!(error instanceof Refusal)) throw error;
    if (error.status === 422 && form.showErrors(error.detail)) {
      showProblem("A field needs another value; the estimate is of the fields before.");
    } else {
      const details = error.status === 422 ? error.detail.map(({ loc, msg }) => ` ${loc.join(".")}: ${msg}.`).join("") : "";
      showProblem(`${error.message}${details}`);
    }
  }
}

byId("start-again").onclick = start;
start();
