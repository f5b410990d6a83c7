/** The fields of one customer, made from the schema. */

import { controlOf, describedBy, numberOf, row, unit } from "./controls.js";
import { make } from "./elements.js";

/** @typedef {import("./schema.js").Field} Field */

const [MONTHS, CHARGE, TOTAL] = ["tenure_months", "monthly_charges", "total_charges"];
const VALUE = "customer_value";
const VALUE_HINT = "Empty: the value that the policy has for all.";

export class Form {
  /**
   * @param {HTMLFormElement} element
   * @param {Field[]} fields
   * @param {Record<string, unknown>} example
   * @param {() => void} onChange
   */
  constructor(element, fields, example, onChange) {
    this.element = element;
    this.fields = fields;
    this.follows = /** @type {HTMLInputElement | null} */ (null);
    element.replaceChildren(
      ...fields.map((field) => this.row(field, example[field.name])),
      this.valueRow(),
    );
    element.addEventListener("input", (event) => {
      this.mirror(/** @type {HTMLInputElement} */ (event.target));
      this.follow();
      onChange();
    });
    element.addEventListener("submit", (event) => event.preventDefault());
  }

  /** The customer as the API wants it. What is empty is left out: the service says if it is needed. */
  get customer() {
    return Object.fromEntries(
      this.fields.map((field) => [field.name, this.read(field)]).filter(([, value]) => value !== undefined),
    );
  }

  /** What this customer is worth; undefined: as the policy says. */
  get value() {
    return numberOf(this.control(VALUE).value);
  }

  /**
   * Show what is wrong with the fields.
   * @param {import("./api.js").Detail[]} detail
   * @returns {boolean} Whether each reason found its field.
   */
  showErrors(detail) {
    /** @type {Map<string, string[]>} */
    const found = new Map();
    let all = detail.length > 0;
    for (const { loc, msg } of detail) {
      const name = [...loc].reverse().map(String).find((part) => part === VALUE || this.has(part));
      if (name === undefined) all = false;
      else found.set(name, [...(found.get(name) ?? []), msg]);
    }
    for (const name of [...this.fields.map((field) => field.name), VALUE]) {
      const place = /** @type {HTMLElement} */ (this.element.querySelector(`#error-${name}`));
      const text = (found.get(name) ?? []).join("; ");
      if (place.textContent !== text) place.textContent = text;
      for (const control of this.controls(name)) {
        if (text) control.setAttribute("aria-invalid", "true");
        else control.removeAttribute("aria-invalid");
      }
    }
    return all;
  }

  /** @param {string} name */
  has(name) {
    return this.fields.some((field) => field.name === name);
  }

  /** @param {string} name */
  controls(name) {
    return /** @type {NodeListOf<HTMLInputElement>} */ (this.element.querySelectorAll(`[name="${name}"]`));
  }

  /** @param {string} name */
  control(name) {
    return this.controls(name)[0];
  }

  /** @param {Field} field */
  read({ name, kind }) {
    if (kind === "boolean") return this.control(name).checked;
    if (kind !== "choice") return numberOf(this.control(name).value);
    const controls = [...this.controls(name)];
    if (controls[0].type === "radio") return controls.find((control) => control.checked)?.value;
    return controls[0].value || undefined;
  }

  /**
   * @param {Field} field
   * @param {unknown} value
   */
  row(field, value) {
    if (field.name !== TOTAL || !this.has(MONTHS) || !this.has(CHARGE)) return controlOf(field, value);
    this.follows = /** @type {HTMLInputElement} */ (make("input", { type: "checkbox", id: "follows" }));
    const label = make("label", { class: "check", for: "follows" }, this.follows, "Follow months × monthly charge");
    return controlOf(field, value, [label]);
  }

  valueRow() {
    const input = make("input", {
      id: VALUE, name: VALUE, type: "number", min: 0.01, step: 10, inputmode: "decimal",
      "aria-describedby": describedBy(VALUE, VALUE_HINT),
    });
    const label = make("label", { for: VALUE }, "Value of this customer", unit("$"));
    return row(VALUE, [label, input], VALUE_HINT);
  }

  /**
   * Keep a number and its slider alike.
   * @param {HTMLInputElement} changed
   */
  mirror(changed) {
    const number = changed.dataset.for;
    if (number) this.control(number).value = changed.value;
    else this.slider(changed.name, changed.value);
  }

  /** Let the charges so far follow, if they shall: a customer of sixty months has paid for sixty. */
  follow() {
    if (!this.follows) return;
    const total = this.control(TOTAL);
    total.readOnly = this.follows.checked;
    if (!this.follows.checked) return;
    const months = numberOf(this.control(MONTHS).value);
    const charge = numberOf(this.control(CHARGE).value);
    if (months === undefined || charge === undefined) return;
    total.value = String(Math.round(100 * charge * Math.max(1, months)) / 100);
  }

  /**
   * @param {string} name
   * @param {string} value
   */
  slider(name, value) {
    const slider = /** @type {HTMLInputElement | null} */ (this.element.querySelector(`[data-for="${name}"]`));
    if (slider && value !== "") slider.value = value;
  }
}
