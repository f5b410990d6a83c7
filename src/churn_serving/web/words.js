/** How figures and fields are named and written for people. */

/**
 * @typedef {object} Words
 * @property {string} label
 * @property {string} [unit]
 * @property {number} [step]
 * @property {[number, number]} [slider] The range in which it is mostly found.
 * @property {boolean} [influence] Whether the company can offer the customer another value.
 * @property {string} [hint] In place of the schema's description.
 * @property {Record<string, string>} [values]
 */

/** What the schema cannot say of a field. A field that is missing here is shown by its name. */
export const FIELDS = /** @type {Record<string, Words>} */ ({
  tenure_months: { label: "Months as a customer", unit: "months", step: 1, slider: [0, 72], hint: "" },
  monthly_charges: { label: "Monthly charge", unit: "$", step: 0.05, slider: [15, 120], hint: "" },
  total_charges: {
    label: "Charges so far", unit: "$", step: 0.05,
    hint: "At least one month's charge. Leave it empty in the first month.",
  },
  num_products: {
    label: "Services", step: 1, slider: [1, 9], influence: true,
    hint: "Phone, further lines, internet, security, backup, protection, support, TV, movies.",
  },
  has_phone_service: { label: "Phone service", hint: "" },
  has_internet: { label: "Internet service", hint: "" },
  contract_type: {
    label: "Contract", influence: true, hint: "",
    values: { "month-to-month": "Month to month", "one-year": "One year", "two-year": "Two years" },
  },
  payment_method: {
    label: "Payment", influence: true, hint: "",
    values: {
      electronic: "Electronic check", mailed: "Mailed check",
      bank: "Bank transfer", credit: "Credit card",
    },
  },
});

/** The served policy's four figures. */
export const FIGURES = {
  customer_value: { label: "Value of a customer", unit: "$", step: 10, min: 0.01, max: 1e9 },
  offer_cost: { label: "Cost of the offer", unit: "$", step: 1, min: 0, max: 1e9 },
  contact_cost: { label: "Cost of the contact", unit: "$", step: 0.5, min: 0, max: 1e9 },
  acceptance: { label: "Leavers who accept", unit: "%", step: 1, min: 0, max: 100 },
};

export const ACTIONS = /** @type {Record<string, string>} */ ({
  contact: "Contact", leave_alone: "Leave alone", control: "Control group",
});

const LIKELIHOODS = /** @type {const} */ ([
  [0.1, "very unlikely"], [1 / 3, "unlikely"], [2 / 3, "about as likely as not"], [0.9, "likely"],
]);

/** @param {string} name */
export function labelOf(name) {
  const words = name.replaceAll("_", " ");
  return FIELDS[name]?.label ?? words.charAt(0).toUpperCase() + words.slice(1);
}

/**
 * @param {string} name
 * @param {unknown} value
 */
export function valueOf(name, value) {
  if (value === null || value === undefined) return "none";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "number") {
    return FIELDS[name]?.unit === "$" ? money(value) : number(value);
  }
  return FIELDS[name]?.values?.[String(value)] ?? String(value);
}

/** @param {number} p */
export function percent(p) {
  if (p > 0 && p < 0.001) return "<0.1%";
  if (p < 1 && p > 0.999) return ">99.9%";
  const digits = p < 0.1 || p > 0.9 ? 1 : 0;
  return `${(100 * p).toFixed(digits)}%`;
}

/** The words of the Intergovernmental Panel on Climate Change for a probability.
 * @param {number} p */
export function likelihood(p) {
  return LIKELIHOODS.find(([below]) => p < below)?.[1] ?? "very likely";
}

/** @param {number} p */
export function frequency(p) {
  const many = Math.round(100 * p);
  if (many === 0) return "Fewer than 1 of 100 customers like this one leave.";
  if (many === 100) return "Nearly all customers like this one leave.";
  return `About ${many} of 100 customers like this one ${many === 1 ? "leaves" : "leave"}.`;
}

/** @param {number} amount */
export function money(amount) {
  const digits = Math.abs(amount) >= 10_000 ? 0 : 2;
  const text = Math.abs(amount).toLocaleString("en-US", {
    minimumFractionDigits: digits, maximumFractionDigits: digits,
  });
  return `${amount < 0 && Number(text) !== 0 ? "−" : ""}$${text}`;
}

/** @param {number} value */
export function number(value) {
  return value.toLocaleString("en-US", { maximumFractionDigits: 2 });
}

/**
 * @param {number} many
 * @param {string} one
 * @param {string} [more]
 */
export function counted(many, one, more = `${one}s`) {
  return `${number(many)} ${many === 1 ? one : more}`;
}
