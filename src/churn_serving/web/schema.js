/** The fields of a customer, as the service's own OpenAPI document describes them. */

export const PREDICT = "api/v2/predict";
export const BATCH = "api/v2/predict/batch";

/**
 * @typedef {object} Field
 * @property {string} name
 * @property {"integer" | "number" | "boolean" | "choice"} kind
 * @property {boolean} required
 * @property {string} description
 * @property {number} [minimum]
 * @property {number} [maximum]
 * @property {string[]} [choices]
 */

/**
 * Read the fields and an example out of the document.
 * @param {any} document
 * @returns {{fields: Field[], example: Record<string, unknown>}}
 */
export function customerOf(document) {
  const body = document.paths[`/${PREDICT}`].post.requestBody.content["application/json"];
  const request = resolved(document, body.schema);
  const customer = resolved(document, request.properties.customer);
  const required = new Set(customer.required ?? []);
  const fields = Object.entries(customer.properties).flatMap(([name, property]) => {
    const field = fieldOf(name, resolved(document, property), required.has(name));
    return field ? [field] : [];
  });
  const example = customer.example ?? customer.examples?.[0] ?? request.example?.customer
    ?? request.examples?.[0]?.customer ?? body.example?.customer ?? {};
  return { fields, example };
}

/**
 * @param {string} name
 * @param {any} property
 * @param {boolean} required
 * @returns {Field | null} Null: a kind that no control is known for.
 */
function fieldOf(name, property, required) {
  const choices = property.enum ?? (property.const === undefined ? undefined : [property.const]);
  const kind = choices ? "choice" : property.type;
  if (!["integer", "number", "boolean", "choice"].includes(kind)) return null;
  const { minimum, maximum, description = "" } = property;
  return { name, kind, required, description, minimum, maximum, choices };
}

/**
 * Follow references, and leave null out of what may be null.
 * @param {any} document
 * @param {any} schema
 * @returns {any}
 */
function resolved(document, schema) {
  let found = schema;
  if (found.$ref) {
    const path = found.$ref.replace(/^#\//, "").split("/");
    const target = path.reduce((/** @type {any} */ part, /** @type {string} */ key) => part[key], document);
    found = { ...target, ...found, $ref: undefined };
    return resolved(document, found);
  }
  const options = found.anyOf ?? found.oneOf ?? found.allOf;
  if (!options) return found;
  const real = options.filter((/** @type {any} */ option) => option.type !== "null");
  if (real.length !== 1) return found;
  return { ...resolved(document, real[0]), ...found, anyOf: undefined, oneOf: undefined, allOf: undefined };
}
