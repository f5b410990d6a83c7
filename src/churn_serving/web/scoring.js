/** Customers of a table through the service, some hundred at a time. */

import { pause, Refusal } from "./api.js";
import { BATCH } from "./schema.js";

/** @typedef {import("./customers.js").Item} Item */
/** @typedef {import("./customers.js").Refused} Refused */

/**
 * @typedef {object} Scored
 * @property {number} line
 * @property {string} id
 * @property {number} probability
 * @property {"contact" | "leave_alone" | "control"} action
 * @property {number} profit
 * @property {string[]} reasons
 */

const CHUNK = 1000;
/** Below the service's limit of 1 MiB. */
const CHUNK_LETTERS = 900_000;

/** The scoring of one table: it can be stopped and go on, and what it has it keeps. */
export class Scoring {
  /**
   * @param {import("./api.js").Api} api
   * @param {Item[]} items
   */
  constructor(api, items) {
    this.api = api;
    this.items = items;
    this.next = 0;
    this.chunk = CHUNK;
    /** @type {Scored[]} */
    this.scored = [];
    /** @type {Refused[]} */
    this.refused = [];
    /** @type {Set<string>} */
    this.versions = new Set();
    /** @type {Map<string, string>} */
    this.sentences = new Map();
  }

  get done() {
    return this.next === this.items.length;
  }

  /**
   * Score what is left.
   * @param {AbortSignal} signal
   * @param {(waiting?: number) => void} onProgress Told after each chunk, and how long it waits.
   */
  async run(signal, onProgress) {
    while (!this.done) {
      const { end, items } = this.nextChunk();
      let answer;
      try {
        answer = await this.api.postPatiently(BATCH, { items }, signal, onProgress);
      } catch (error) {
        // Some proxies take less than the service does.
        if (!(error instanceof Refusal && error.status === 413) || items.length === 1) throw error;
        this.chunk = Math.ceil(items.length / 2);
        continue;
      }
      for (let place = this.next; place < end; place++) this.take(this.items[place], answer.results[place - this.next]);
      this.versions.add(`${answer.model_version} ${answer.policy_version}`);
      this.next = end;
      onProgress();
      await pause(0, signal);
    }
  }

  nextChunk() {
    const items = [];
    let letters = 0;
    let end = this.next;
    for (; end < this.items.length && items.length < this.chunk; end++) {
      const { id, customer, value } = this.items[end];
      // How many reasons are told is left to the service: those of some models take too long for a list.
      const item = {
        customer, ...(id ? { customer_id: id } : {}), ...(value === undefined ? {} : { customer_value: value }),
      };
      // A letter may take three bytes, and six where it is escaped.
      letters += JSON.stringify({ ...item, customer_id: undefined }).length + 6 * id.length + 24;
      if (items.length && letters > CHUNK_LETTERS) break;
      items.push(item);
    }
    return { end, items };
  }

  /**
   * @param {Item} item
   * @param {any} answer
   */
  take({ line, id }, answer) {
    if (answer.error) {
      this.refused.push({ line, id, reason: reasonOf(answer) });
      return;
    }
    this.scored.push({
      line, id,
      probability: answer.churn_probability,
      action: answer.decision.action,
      profit: answer.decision.expected_profit,
      reasons: (answer.reasons ?? []).filter((/** @type {any} */ reason) => reason.code !== "other")
        .map((/** @type {any} */ reason) => this.once(reason.message)),
    });
  }

  /** Keep each sentence once: thousands of customers share it.
   * @param {string} sentence */
  once(sentence) {
    const known = this.sentences.get(sentence);
    if (known !== undefined) return known;
    this.sentences.set(sentence, sentence);
    return sentence;
  }
}

/** @param {{error: string, detail: import("./api.js").Detail[]}} answer */
function reasonOf({ error, detail }) {
  if (!detail.length) return error;
  return detail.map(({ loc, msg }) => `${loc.at(-1) ?? "row"}: ${msg}`).join("; ");
}
