/** What the estimate would be with one field changed that the company can influence. */

import { byId, make } from "./elements.js";
import { BATCH } from "./schema.js";
import { ACTIONS, FIELDS, labelOf, percent, valueOf } from "./words.js";

/**
 * @typedef {object} Change
 * @property {string} name
 * @property {unknown} value
 * @property {Record<string, unknown>} customer
 */

/**
 * Return each change that can be tried: another choice, or one service more or less.
 * @param {import("./schema.js").Field[]} fields
 * @param {Record<string, unknown>} customer
 * @returns {Change[]}
 */
export function changesOf(fields, customer) {
  return fields.filter(({ name }) => FIELDS[name]?.influence).flatMap((field) => {
    const now = customer[field.name];
    const values = field.kind === "choice" ? (field.choices ?? []).filter((choice) => choice !== now)
      : field.kind === "boolean" ? [!now] : neighbours(field, now);
    return values.map((value) => ({ name: field.name, value, customer: { ...customer, [field.name]: value } }));
  });
}

/**
 * Ask the service what each would be.
 * @param {import("./api.js").Api} api
 * @param {Change[]} changes
 * @param {number | undefined} value The customer's.
 * @param {AbortSignal} signal
 */
export async function tried(api, changes, value, signal) {
  if (!changes.length) return [];
  const items = changes.map(({ customer }) => ({
    customer, what_if: true, max_reasons: 0, ...(value === undefined ? {} : { customer_value: value }),
  }));
  const { results } = await api.post(BATCH, { items }, signal);
  return changes.map((change, place) => ({ ...change, answer: results[place] }))
    .filter(({ answer }) => !answer.error)
    .sort((one, other) => one.answer.churn_probability - other.answer.churn_probability);
}

/**
 * Show them, the lowest estimate first.
 * @param {import("./answer.js").Answer} now
 * @param {(Change & {answer: import("./answer.js").Answer})[]} changes
 */
export function showChanges(now, changes) {
  const flips = changes.filter(({ answer }) => answer.decision.action !== now.decision.action);
  byId("change-summary").textContent = !changes.length ? "There is no such change for this customer."
    : flips.length ? `With ${flips.map(sentence).join("; or with ")}.`
      : `None of these changes alone would change the decision: ${word(now)}.`;
  byId("changes").replaceChildren(...changes.map((change) => row(now, change)));
}

/** @param {Change & {answer: import("./answer.js").Answer}} change */
function sentence({ name, value, answer }) {
  return `${named(name, value)} the estimate would be ${percent(answer.churn_probability)}, and the decision: ${word(answer)}`;
}

/** @param {import("./answer.js").Answer} answer */
function word({ decision }) {
  return (ACTIONS[decision.action] ?? decision.action).toLowerCase();
}

/**
 * @param {string} name
 * @param {unknown} value
 */
function named(name, value) {
  return `${labelOf(name).toLowerCase()} ${valueOf(name, value).toLowerCase()}`;
}

/**
 * @param {import("./answer.js").Answer} now
 * @param {Change & {answer: import("./answer.js").Answer}} change
 */
function row(now, { name, value, answer }) {
  const points = 100 * (answer.churn_probability - now.churn_probability);
  const way = Math.abs(points) < 0.05 ? "leaves" : points < 0 ? "lowers" : "raises";
  const signed = way === "leaves" ? "none" : `${points < 0 ? "−" : "+"}${Math.abs(points).toFixed(1)} points`;
  const flips = answer.decision.action !== now.decision.action;
  return make("tr", {},
    make("th", { scope: "row" }, `${labelOf(name)}: ${valueOf(name, value)}`),
    make("td", {}, percent(answer.churn_probability)),
    make("td", { class: `direction ${way}` }, signed),
    make("td", {}, make("span", { class: `badge ${answer.decision.action}` }, ACTIONS[answer.decision.action]),
      ...(flips ? [" changes"] : [])));
}

/**
 * @param {import("./schema.js").Field} field
 * @param {unknown} now
 */
function neighbours({ minimum = -Infinity, maximum = Infinity }, now) {
  if (typeof now !== "number") return [];
  return [now - 1, now + 1].filter((value) => value >= minimum && value <= maximum);
}
