/** Whom to contact: ranked within limits, summed up, shown and saved. */

import { numberOf } from "./controls.js";
import { written } from "./csv.js";
import { byId, make, tell } from "./elements.js";
import { expectedCost } from "./profit.js";
import { rank } from "./ranking.js";
import { PagedTable } from "./table.js";
import { ACTIONS, counted, money, number, percent } from "./words.js";

/** @typedef {import("./scoring.js").Scored} Scored */
/** @typedef {import("./scoring.js").Scoring} Scoring */
/** @typedef {import("./customers.js").Table} Table */

const SHOWN_REASONS = 2;
const VIEWS = ["contacts", "all", "refused"];

export class Results {
  /**
   * @param {import("./profit.js").Policy} policy
   * @param {string} policyVersion
   */
  constructor(policy, policyVersion) {
    this.policy = policy;
    this.policyVersion = policyVersion;
    this.table = new PagedTable();
    this.name = "";
    /** @type {Table | null} */
    this.read = null;
    /** @type {Scoring | null} */
    this.scoring = null;
    this.ranking = /** @type {Scored[]} */ ([]);
    this.shown = VIEWS[0];
    byId("limits").oninput = () => this.rankAnew();
    byId("limits").onsubmit = (event) => event.preventDefault();
    byId("download").onclick = () => this.download(this.ranking, "contacts");
    byId("download-all").onclick = () => this.download(this.everybody(), "all");
    for (const view of VIEWS) byId(`show-${view}`).onclick = () => this.show(view);
  }

  /**
   * Show what became of a table.
   * @param {string} name The file's, without its end.
   * @param {Table} read
   * @param {Scoring} scoring
   */
  present(name, read, scoring) {
    this.name = name;
    this.read = read;
    this.scoring = scoring;
    const refused = this.refused();
    byId("list-note").textContent = `${read.note}${this.changed(scoring)}`;
    byId("result").hidden = false;
    byId("show-refused").textContent = `Refused rows (${number(refused.length)})`;
    this.shown = scoring.scored.length || !refused.length ? "contacts" : "refused";
    this.rankAnew();
  }

  /** @param {Scoring} scoring */
  changed({ versions }) {
    if (versions.size > 1) return " The model or the policy changed while these were scored: score the file again.";
    const [version] = versions;
    if (version === undefined || version.endsWith(` ${this.policyVersion}`)) return "";
    return " The policy has changed since this page was opened: reload the page.";
  }

  refused() {
    const all = [...(this.read?.refused ?? []), ...(this.scoring?.refused ?? [])];
    return all.sort((one, other) => one.line - other.line);
  }

  /** Rank whom to contact within the limits as typed. */
  rankAnew() {
    const limits = typedLimits();
    tell("limits-problem", typeof limits === "string" ? limits : "");
    if (typeof limits === "string" || !this.scoring) return;
    const { scored } = this.scoring;
    const customers = scored.map(({ probability, profit, action }) => ({
      profit, cost: expectedCost(this.policy, probability), eligible: action === "contact",
    }));
    this.ranking = rank(customers, limits).map((place) => scored[place]);
    this.summarise();
    this.show(this.shown);
  }

  summarise() {
    const { scored } = /** @type {Scoring} */ (this.scoring);
    const profit = this.ranking.reduce((sum, each) => sum + each.profit, 0);
    const cost = this.ranking.reduce((sum, each) => sum + expectedCost(this.policy, each.probability), 0);
    const worthIt = scored.filter(({ action }) => action === "contact").length;
    const control = scored.filter(({ action }) => action === "control").length;
    const refused = this.refused().length;
    const tiles = [
      ["To contact", number(this.ranking.length), `of ${number(worthIt)} for whom it pays`],
      ["Expected profit", money(profit), "of these contacts, after their cost"],
      ["Expected cost", money(cost), "contacts and offers"],
      ["Customers scored", number(scored.length), [
        ...(control ? [`${number(control)} kept apart as a control group`] : []), `${counted(refused, "row")} refused`,
      ].join(", ")],
    ];
    byId("summary").replaceChildren(...tiles.map(([name, value, more]) =>
      make("div", {}, make("dt", {}, name), make("dd", {}, make("strong", {}, value), make("small", {}, more)))));
    byId("list-spoken").textContent = `${counted(this.ranking.length, "customer")} to contact, expected profit ${money(profit)}.`;
  }

  /** @param {string} which */
  show(which) {
    this.shown = which;
    for (const each of VIEWS) byId(`show-${each}`).setAttribute("aria-pressed", String(each === which));
    if (which === "refused") {
      this.table.show({
        caption: "Refused rows", columns: ["Line", "Customer", "Why"], rows: this.refused(),
        cells: ({ line, id, reason }) => [number(line), id || "–", reason],
      });
      return;
    }
    const rows = which === "contacts" ? this.ranking : this.everybody();
    const many = this.ranking.length;
    this.table.show({
      caption: which === "contacts" ? "Whom to contact, the most profitable first" : "Everybody, whom to contact first",
      columns: ["Rank", this.read?.hasIds ? "Customer" : "Line", "Estimate", "Decision", "Expected profit", "What moves the estimate"],
      rows,
      cells: ({ id, line, probability, action, profit, reasons }, place) => [
        which === "contacts" || place < many ? number(place + 1) : "–",
        this.read?.hasIds ? id || `line ${line}` : number(line),
        percent(probability),
        make("span", { class: `badge ${action}` }, ACTIONS[action] ?? action),
        money(profit),
        make("ul", { class: "plain" }, ...reasons.slice(0, SHOWN_REASONS).map((reason) => make("li", {}, reason))),
      ],
    });
  }

  /** Everybody: those to contact in their order, then the others by profit. */
  everybody() {
    const chosen = new Set(this.ranking);
    const others = (this.scoring?.scored ?? []).filter((each) => !chosen.has(each));
    others.sort((one, other) => other.profit - one.profit || one.line - other.line);
    return [...this.ranking, ...others];
  }

  /**
   * @param {Scored[]} rows
   * @param {string} which
   */
  download(rows, which) {
    const many = this.ranking.length;
    const [model = "", policy = ""] = ([...(this.scoring?.versions ?? [])].at(-1) ?? "").split(" ");
    // A call takes no hundred thousand arguments.
    const reasons = rows.reduce((most, row) => Math.max(most, row.reasons.length), 0);
    const names = Array.from({ length: reasons }, (_, place) => `reason_${place + 1}`);
    const header = ["rank", "customer_id", "line", "churn_probability", "action", "expected_profit", "expected_cost",
      ...names, "model_version", "policy_version"];
    const body = rows.map((row, place) => [
      place < many ? place + 1 : null, row.id, row.line, row.probability, row.action, row.profit,
      expectedCost(this.policy, row.probability), ...names.map((_, index) => row.reasons[index] ?? null), model, policy,
    ]);
    save(`${this.name}-${which}.csv`, written([header, ...body]));
  }
}

/** Return the limits as typed, or what is wrong with them.
 * @returns {{capacity?: number, budget?: number} | string} */
function typedLimits() {
  const [capacity, budget] = ["capacity", "budget"].map((name) => {
    const input = /** @type {HTMLInputElement} */ (byId(name));
    return input.validity.badInput ? NaN : numberOf(input.value);
  });
  const whole = capacity === undefined || (Number.isInteger(capacity) && capacity >= 1);
  byId("capacity").setAttribute("aria-invalid", String(!whole));
  if (!whole) return "Contacts at most: expected a whole number of 1 or more, or nothing.";
  const positive = budget === undefined || budget > 0;
  byId("budget").setAttribute("aria-invalid", String(!positive));
  if (!positive) return "Budget at most: expected a number greater than 0, or nothing.";
  return { capacity, budget };
}

/**
 * Give a file to the browser.
 * @param {string} name
 * @param {string} text
 */
export function save(name, text) {
  const url = URL.createObjectURL(new Blob([text], { type: "text/csv;charset=utf-8" }));
  const link = make("a", { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
