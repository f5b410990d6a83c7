/** From the text of a table to customers, and the rows that are none. */

import { columnsOf, meaningOf, planFor, recognised } from "./columns.js";
import { TableError, headerOf, rowsOf } from "./csv.js";
import { isMissing, markOf, numberIn, unmarked, wayOf } from "./numbers.js";

/** @typedef {{line: number, id: string, customer: Record<string, unknown>, value: number | undefined}} Item */
/** @typedef {{line: number, id: string, reason: string}} Refused */

/**
 * @typedef {object} Table
 * @property {Item[]} items
 * @property {Refused[]} refused
 * @property {string} note How the table was understood.
 * @property {boolean} hasIds
 */

export const MOST_CUSTOMERS = 500_000;
const FIRST_MONTHS = [0, 1];
const BREATH = 4000;
const MONTHS = "tenure_months";
const TOTAL = "total_charges";
const SEPARATOR_WORDS = /** @type {Record<string, string>} */ ({ ";": "semicolons", "\t": "tabs", "|": "bars" });

/**
 * Read customers.
 * @param {string} text
 * @param {import("./columns.js").Layout[]} layouts
 * @param {AbortSignal} [signal]
 * @returns {Promise<Table>}
 */
export async function customersIn(text, layouts, signal) {
  const header = headerOf(text, (names) => recognised(names, layouts));
  if (!header) throw new TableError("No line with the names of columns was found.");
  const plan = planFor(header.names, layouts);
  const rows = [];
  /** @type {Refused[]} */
  const refused = [];
  for (const { cells, line, open } of rowsOf(text, { ...header, from: header.end, line: header.nextLine })) {
    if (open) throw new TableError(`Line ${line} opens a quote that is never closed.`);
    if (cells.every((cell) => !cell.trim())) continue;
    if (cells.length === header.names.length) rows.push({ cells, line });
    else refused.push({ line, id: "", reason: ragged(cells.length, header) });
    if (rows.length > MOST_CUSTOMERS) {
      throw new TableError(`The table has more than ${MOST_CUSTOMERS.toLocaleString("en-US")} customers: score it in bulk, or split it.`);
    }
    if ((rows.length + refused.length) % BREATH === 0) await breath(signal);
  }
  if (!rows.length && !refused.length) throw new TableError("The table has column names, but no customers below them.");
  const reader = new Reader(plan, rows.map(({ cells }) => cells));
  /** @type {Item[]} */
  const items = [];
  /** @type {Map<string, number>} */
  const lines = new Map();
  for (const [place, { cells, line }] of rows.entries()) {
    const id = plan.id === undefined ? "" : cells[plan.id].trim();
    const before = id ? lines.get(id) : undefined;
    const found = before === undefined ? reader.item(cells) : `customer_id stands in line ${before} already`;
    if (typeof found === "string") refused.push({ line, id, reason: found });
    else items.push({ line, id, ...found });
    if (id && before === undefined) lines.set(id, line);
    if (place % BREATH === BREATH - 1) await breath(signal);
  }
  refused.sort((one, other) => one.line - other.line);
  return { items, refused, note: noteOf(plan, header, reader), hasIds: plan.id !== undefined };
}

/** Understands the cells of one table. */
class Reader {
  /**
   * @param {import("./columns.js").Plan} plan
   * @param {string[][]} rows
   */
  constructor(plan, rows) {
    this.plan = plan;
    const numeric = columnsOf(plan.layout).filter((column) => typeof this.cellsOf(column) === "string");
    const places = numeric.map((column) => plan.places[column]);
    const money = numeric.filter((column) => this.cellsOf(column) === "number").map((column) => plan.places[column]);
    if (plan.value !== undefined) {
      places.push(plan.value);
      money.push(plan.value);
    }
    this.mark = markOf(money.flatMap((place) => rows.map((cells) => cells[place].trim())));
    this.money = new Set(money);
    this.way = wayOf(places.flatMap((place) => rows.map((cells) => this.text(cells, place))));
    this.meanings = new Map(columnsOf(plan.layout).flatMap((column) => {
      const kind = this.cellsOf(column);
      return typeof kind === "string" ? [] : [[column, meaningOf(kind)]];
    }));
  }

  /**
   * @param {string} column
   * @returns {import("./columns.js").Cells}
   */
  cellsOf(column) {
    const columns = Object.values(this.plan.layout.fields).find((each) => column in each);
    return /** @type {Record<string, import("./columns.js").Cells>} */ (columns)[column];
  }

  /**
   * @param {string[]} cells
   * @param {number} place
   */
  text(cells, place) {
    const text = cells[place].trim();
    return this.money.has(place) ? unmarked(text, this.mark) : text;
  }

  /**
   * Return the customer of a row, or why there is none.
   * @param {string[]} cells
   * @returns {{customer: Record<string, unknown>, value: number | undefined} | string}
   */
  item(cells) {
    /** @type {Record<string, unknown>} */
    const customer = {};
    for (const [name, columns] of Object.entries(this.plan.layout.fields)) {
      const values = [];
      for (const [column, kind] of Object.entries(columns)) {
        const place = this.plan.places[column];
        const text = this.text(cells, place);
        if (typeof kind !== "string") {
          const meaning = this.meanings.get(column)?.(text);
          if (meaning === undefined) return expected(column, `one of ${Object.keys(kind.meanings).map((each) => `'${each}'`).join(", ")}`, text);
          values.push(meaning);
          continue;
        }
        if (name === TOTAL && isMissing(text)) continue;
        const value = numberIn(text, this.way);
        const whole = kind === "integer";
        // JSON has no infinity: 1e999 would be sent as null, as if nothing were known.
        if (!Number.isFinite(value) || (whole && !Number.isInteger(value))) return expected(column, whole ? "a whole number" : "a number", text);
        values.push(value);
      }
      if (values.length) customer[name] = values.length === 1 ? values[0] : values.filter(Boolean).length;
    }
    // The service fills a total that the first month has not billed yet, and no other.
    if (TOTAL in this.plan.layout.fields && !(TOTAL in customer) && !FIRST_MONTHS.includes(Number(customer[MONTHS]))) {
      return expected(Object.keys(this.plan.layout.fields[TOTAL])[0], "a number", "");
    }
    const text = this.plan.value === undefined ? "" : this.text(cells, this.plan.value);
    const value = isMissing(text) ? undefined : numberIn(text, this.way);
    return value !== undefined && !Number.isFinite(value) ? expected("customer_value", "a number", text) : { customer, value };
  }
}

/**
 * @param {string} column
 * @param {string} what
 * @param {string} found
 */
function expected(column, what, found) {
  const shown = found.length > 40 ? `${found.slice(0, 40)}…` : found;
  return `column '${column}': expected ${what}, found ${shown ? `'${shown}'` : "an empty cell"}`;
}

/**
 * @param {number} cells
 * @param {{names: string[], separator: string}} header
 */
function ragged(cells, { names, separator }) {
  const comma = cells > names.length && separator === "," ? "; a comma in a cell needs quotes" : "";
  return `${cells} ${cells === 1 ? "cell" : "cells"}, the header has ${names.length}${comma}`;
}

/**
 * @param {import("./columns.js").Plan} plan
 * @param {{names: string[], separator: string}} header
 * @param {Reader} reader
 */
function noteOf(plan, { names, separator }, reader) {
  const notes = [
    ...(separator === "," ? [] : [`${SEPARATOR_WORDS[separator] ?? `'${separator}'`} between cells`]),
    ...(reader.mark ? [`amounts in '${reader.mark}'`] : []),
    ...(reader.way === "comma" ? ["decimal commas"] : []),
    ...(plan.id === undefined ? [] : [`customers by '${names[plan.id].trim()}'`]),
    ...(plan.value === undefined ? [] : [`values by '${names[plan.value].trim()}'`]),
  ];
  return `Read as ${plan.layout.title}${notes.length ? `: ${notes.join(", ")}` : ""}.`;
}

/** Let the page answer to its user.
 * @param {AbortSignal} [signal] */
async function breath(signal) {
  await new Promise((done) => setTimeout(done));
  signal?.throwIfAborted();
}
