/** The control of each kind of field, with its label, its hint and a place for what is wrong. */

import { make } from "./elements.js";
import { FIELDS, labelOf } from "./words.js";

/** @typedef {import("./schema.js").Field} Field */

const MOST_CHIPS = 6;
const LONGEST_SLIDER = 1000;

/**
 * Return the control of a field.
 * @param {Field} field
 * @param {unknown} value
 * @param {HTMLElement[]} [more] What belongs to it.
 */
export function controlOf(field, value, more = []) {
  if (field.kind === "boolean") return switchOf(field, value);
  if (field.kind !== "choice") return numberControl(field, value, more);
  return (field.choices ?? []).length > MOST_CHIPS ? selectOf(field, value) : chipsOf(field, value);
}

/**
 * Put a label, controls, a hint and a place for errors together.
 * @param {string} name
 * @param {HTMLElement[]} children
 * @param {string} hint
 */
export function row(name, children, hint) {
  return make("div", { class: "field" }, ...children, ...notes(name, hint));
}

/**
 * Return the ids of what is said about a control.
 * @param {string} name
 * @param {string} hint
 */
export function describedBy(name, hint) {
  return hint ? `hint-${name} error-${name}` : `error-${name}`;
}

/** @param {string} mark */
export function unit(mark) {
  return make("span", { class: "unit" }, ` ${mark}`);
}

/** Return the number that was typed; undefined for none.
 * @param {string} text */
export function numberOf(text) {
  const value = Number(text);
  return text.trim() === "" || Number.isNaN(value) ? undefined : value;
}

/**
 * @param {Field} field
 * @param {unknown} value
 * @param {HTMLElement[]} more
 */
function numberControl(field, value, more) {
  const { name, kind, minimum, maximum, required } = field;
  const words = FIELDS[name] ?? {};
  const step = words.step ?? (kind === "integer" ? 1 : 0.01);
  const hint = hintOf(field);
  const given = typeof value === "number" ? value : required ? minimum : undefined;
  const input = make("input", {
    id: name, name, type: "number", min: minimum, max: maximum, step, value: given, required,
    inputmode: kind === "integer" ? "numeric" : "decimal", "aria-describedby": describedBy(name, hint),
  });
  const mark = words.unit && words.unit !== "months" ? [unit(words.unit)] : [];
  const slider = words.slider ?? sliderOf(field, step);
  const sliders = slider ? [make("input", {
    type: "range", min: slider[0], max: slider[1], step, value: given, "data-for": name,
    "aria-label": `${labelOf(name)}, slider`,
  })] : [];
  return row(name, [make("label", { for: name }, labelOf(name), ...mark), input, ...sliders, ...more], hint);
}

/**
 * @param {Field} field
 * @param {unknown} value
 */
function switchOf(field, value) {
  const { name } = field;
  const hint = hintOf(field);
  const input = make("input", {
    id: name, name, type: "checkbox", checked: value === true, "aria-describedby": describedBy(name, hint),
  });
  return row(name, [make("label", { class: "check", for: name }, input, labelOf(name))], hint);
}

/**
 * @param {Field} field
 * @param {unknown} value
 */
function chipsOf(field, value) {
  const { name, choices = [] } = field;
  const hint = hintOf(field);
  const chips = choices.map((choice) => make("label", { class: "chip" },
    make("input", { type: "radio", name, value: choice, checked: choice === (value ?? choices[0]) }),
    make("span", {}, wordOf(name, choice))));
  return make("fieldset", { class: "field", "aria-describedby": describedBy(name, hint) },
    make("legend", {}, labelOf(name)), make("div", { class: "chips" }, ...chips), ...notes(name, hint));
}

/**
 * @param {Field} field
 * @param {unknown} value
 */
function selectOf(field, value) {
  const { name, choices = [] } = field;
  const hint = hintOf(field);
  const options = choices.map((choice) => make("option", { value: choice, selected: choice === value }, wordOf(name, choice)));
  const select = make("select", { id: name, name, "aria-describedby": describedBy(name, hint) }, ...options);
  return row(name, [make("label", { for: name }, labelOf(name)), select], hint);
}

/**
 * @param {string} name
 * @param {string} choice
 */
function wordOf(name, choice) {
  return FIELDS[name]?.values?.[choice] ?? choice;
}

/** @param {Field} field */
function hintOf({ name, description }) {
  return FIELDS[name]?.hint ?? description;
}

/**
 * A field that the table of words does not know has a slider if its range is a short one.
 * @param {Field} field
 * @param {number} step
 * @returns {[number, number] | null}
 */
function sliderOf({ minimum, maximum }, step) {
  if (minimum === undefined || maximum === undefined) return null;
  return (maximum - minimum) / step <= LONGEST_SLIDER ? [minimum, maximum] : null;
}

/**
 * @param {string} name
 * @param {string} hint
 */
function notes(name, hint) {
  return [
    ...(hint ? [make("small", { id: `hint-${name}`, class: "hint" }, hint)] : []),
    make("small", { id: `error-${name}`, class: "bad" }),
  ];
}
