/**
 * Which columns of a table make which field, and how people spell them: as training reads them.
 *
 * A test holds these tables equal to those of `churn_serving/features/layouts.py`, which is
 * not there where customers are scored.
 */

import { TableError } from "./csv.js";

const YES_NO = { Yes: true, No: false };
const SERVICE = {
  meanings: YES_NO,
  synonyms: {
    true: "Yes", 1: "Yes", "1.0": "Yes", y: "Yes", t: "Yes",
    false: "No", 0: "No", "0.0": "No", n: "No", f: "No",
  },
};
const LINES = { meanings: { ...YES_NO, "No phone service": false }, synonyms: SERVICE.synonyms };
const ONLINE = { meanings: { ...YES_NO, "No internet service": false }, synonyms: SERVICE.synonyms };
const INTERNET = { meanings: { DSL: true, "Fiber optic": true, No: false }, synonyms: { none: "No" } };
const FLAG = {
  meanings: { true: true, false: false, 1: true, 0: false, ...YES_NO },
  synonyms: { "1.0": "1", "0.0": "0", y: "Yes", n: "No", t: "true", f: "false" },
};
const CONTRACTS = { "Month-to-month": "month-to-month", "One year": "one-year", "Two year": "two-year" };
const PAYMENTS = {
  "Electronic check": "electronic", "Mailed check": "mailed",
  "Bank transfer (automatic)": "bank", "Credit card (automatic)": "credit",
};

/** @typedef {{meanings: Record<string, string | boolean>, synonyms: Record<string, string>}} Choices */
/** @typedef {"integer" | "number" | Choices} Cells */

/**
 * @typedef {object} Layout
 * @property {string} title
 * @property {Record<string, Record<string, Cells>>} fields The columns of each field. Several add up: each is a product.
 */

/** @type {Layout} */
export const RAW = {
  title: "the raw Telco table",
  fields: {
    tenure_months: { tenure: "integer" },
    monthly_charges: { MonthlyCharges: "number" },
    total_charges: { TotalCharges: "number" },
    num_products: {
      PhoneService: SERVICE, InternetService: INTERNET, MultipleLines: LINES, OnlineSecurity: ONLINE,
      OnlineBackup: ONLINE, DeviceProtection: ONLINE, TechSupport: ONLINE, StreamingTV: ONLINE,
      StreamingMovies: ONLINE,
    },
    has_phone_service: { PhoneService: SERVICE },
    has_internet: { InternetService: INTERNET },
    contract_type: { Contract: { meanings: CONTRACTS, synonyms: swapped(CONTRACTS) } },
    payment_method: { PaymentMethod: { meanings: PAYMENTS, synonyms: swapped(PAYMENTS) } },
  },
};

const RAW_SPELLINGS = /** @type {Record<string, Record<string, string>>} */ ({
  contract_type: CONTRACTS, payment_method: PAYMENTS,
});

/**
 * Return the layout of a table that has the fields themselves.
 * @param {import("./schema.js").Field[]} fields
 * @returns {Layout}
 */
export function ownLayout(fields) {
  return {
    title: "a table of the customer's fields",
    fields: Object.fromEntries(fields.map((field) => [field.name, { [field.name]: ownCells(field) }])),
  };
}

/**
 * @param {import("./schema.js").Field} field
 * @returns {Cells}
 */
function ownCells({ name, kind, choices = [] }) {
  if (kind === "boolean") return FLAG;
  if (kind !== "choice") return kind;
  const others = RAW_SPELLINGS[name] ?? {};
  return {
    meanings: Object.fromEntries(choices.map((choice) => [choice, choice])),
    synonyms: Object.fromEntries(Object.entries(others).flatMap(([raw, own]) => [
      [squeezed(raw), own], [raw.toLowerCase(), own],
    ])),
  };
}

const SPELLINGS = /** @type {Record<string, string[]>} */ ({ tenure: ["tenure", "tenuremonths"] });
const ID = "customer_id";
const VALUE = "customer_value";

/**
 * @typedef {object} Plan
 * @property {Layout} layout
 * @property {Record<string, number>} places Where each column stands.
 * @property {number | undefined} id
 * @property {number | undefined} value
 */

/**
 * Say what each column is, by the kind of table that fits best.
 * @param {string[]} names
 * @param {Layout[]} layouts
 * @returns {Plan}
 */
export function planFor(names, layouts) {
  const words = firstPlaces(names);
  const found = layouts.map((layout) => ({ layout, places: placesIn(layout, words) }));
  const share = (/** @type {{layout: Layout, places: object}} */ each) => Object.keys(each.places).length / columnsOf(each.layout).length;
  const { layout, places } = found.reduce((one, other) => (share(other) > share(one) ? other : one));
  const missing = columnsOf(layout).filter((column) => !(column in places));
  if (missing.length) throw new TableError(whatIsMissing(layout, missing, names, layouts));
  refuseTwice(names, layout);
  return { layout, places, id: words.get(normal(ID)), value: words.get(normal(VALUE)) };
}

/**
 * Return how many of the names belong to the kind of table that fits best: is it a header?
 * @param {string[]} names
 * @param {Layout[]} layouts
 */
export function recognised(names, layouts) {
  const words = firstPlaces(names);
  return Math.max(...layouts.map((layout) => Object.keys(placesIn(layout, words)).length));
}

/**
 * Return what finds the meaning of a cell: undefined for none of the choices.
 * @param {Choices} choices
 * @returns {(text: string) => string | boolean | undefined}
 */
export function meaningOf({ meanings, synonyms }) {
  /** @type {Map<string, string | boolean>} */
  const known = new Map();
  for (const [spelling, meaning] of Object.entries(meanings)) {
    known.set(spelling.toLowerCase(), meaning);
    known.set(squeezed(spelling), meaning);
  }
  for (const [other, spelling] of Object.entries(synonyms)) {
    known.set(other, /** @type {string | boolean} */ (known.get(spelling.toLowerCase())));
  }
  return (text) => {
    const word = text.trim().toLowerCase();
    return known.get(word) ?? known.get(squeezed(word));
  };
}

/** @param {Layout} layout */
export function columnsOf(layout) {
  return [...new Set(Object.values(layout.fields).flatMap((columns) => Object.keys(columns)))];
}

/** @param {Record<string, string>} table */
function swapped(table) {
  return Object.fromEntries(Object.entries(table).map(([spelling, value]) => [value.toLowerCase(), spelling]));
}

/** Leave spaces and punctuation out of a word. A number stays as it is: -1 is not 1.
 * @param {string} text */
function squeezed(text) {
  return /\p{L}/u.test(text) ? normal(text) : text;
}

/** @param {string} name */
function normal(name) {
  return name.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "");
}

/** @param {string[]} names */
function firstPlaces(names) {
  /** @type {Map<string, number>} */
  const places = new Map();
  names.forEach((name, place) => {
    if (!places.has(normal(name))) places.set(normal(name), place);
  });
  return places;
}

/** @param {string} column */
function wordsOf(column) {
  return SPELLINGS[column] ?? [normal(column)];
}

/**
 * @param {Layout} layout
 * @param {Map<string, number>} words
 */
function placesIn(layout, words) {
  /** @type {Record<string, number>} */
  const places = {};
  for (const column of columnsOf(layout)) {
    const word = wordsOf(column).find((each) => words.has(each));
    if (word !== undefined) places[column] = /** @type {number} */ (words.get(word));
  }
  return places;
}

/**
 * @param {Layout} layout
 * @param {string[]} missing
 * @param {string[]} names
 * @param {Layout[]} layouts
 */
function whatIsMissing(layout, missing, names, layouts) {
  const found = `found ${listed(names.map((name) => name.trim()), 25)}.`;
  if (missing.length === columnsOf(layout).length) {
    const kinds = layouts.map((each) => `${listed(columnsOf(each), 25)} (${each.title})`).join(", or ");
    return `No column is known: expected the columns ${kinds}; ${found}`;
  }
  return `Missing ${missing.length > 1 ? "columns" : "column"} ${listed(missing, 25)} of ${layout.title}; ${found}`;
}

/**
 * @param {string[]} names
 * @param {number} most
 */
export function listed(names, most) {
  const shown = names.slice(0, most).map((name) => `'${name.length > 40 ? `${name.slice(0, 40)}…` : name}'`).join(", ");
  return names.length > most ? `${shown} and ${names.length - most} more` : shown;
}

/**
 * Refuse a table in which a name could mean two columns.
 * @param {string[]} names
 * @param {Layout} layout
 */
function refuseTwice(names, layout) {
  for (const column of [...columnsOf(layout), ID, VALUE]) {
    const words = wordsOf(column);
    const same = names.filter((name) => words.includes(normal(name)));
    if (same.length > 1) throw new TableError(`Column '${column}' is there more than once: as ${listed(same, 5)}.`);
  }
}
