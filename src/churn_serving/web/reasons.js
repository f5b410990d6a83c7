/** Reasons of an estimate, as a list with a bar each: to the right it raises the estimate. */

import { draw, make } from "./elements.js";
import { labelOf, percent, valueOf } from "./words.js";

/**
 * @typedef {object} Reason
 * @property {string} code
 * @property {string[]} fields
 * @property {unknown[]} values
 * @property {unknown[]} reference
 * @property {number} impact In log-odds.
 * @property {"raises" | "lowers" | "leaves"} direction
 * @property {string} message
 */

const SIGNS = { raises: "raises", lowers: "lowers", leaves: "leaves as it is" };

/**
 * Show the reasons.
 * @param {HTMLElement} list
 * @param {Reason[]} reasons
 */
export function showReasons(list, reasons) {
  const longest = Math.max(...reasons.map(({ impact }) => Math.abs(impact)), 1e-9);
  list.replaceChildren(...reasons.map((reason) => item(reason, reason.impact / longest)));
}

/**
 * Say where the impacts start from.
 * @param {number | null} baseline In log-odds.
 */
export function startOf(baseline) {
  if (baseline === null) return "The served model gives no reasons: it was registered without their tables.";
  const p = 1 / (1 + Math.exp(-baseline));
  return `The model starts at ${percent(p)}, for the customers it compares with. From there each field moves the estimate.`;
}

/**
 * @param {Reason} reason
 * @param {number} share Of the longest bar, with its sign.
 */
function item({ fields, values, direction, message, code }, share) {
  const title = code === "other" ? "The other fields" : fields.map(labelOf).join(" and ");
  const found = values.map((value, place) => valueOf(fields[place], value)).join(" and ");
  const width = 50 * Math.abs(share);
  const bar = draw("svg", { viewBox: "0 0 100 8", preserveAspectRatio: "none", class: "impact", "aria-hidden": "true" },
    draw("rect", { x: share < 0 ? 50 - width : 50, y: 0, width, height: 8, class: direction }),
    draw("rect", { x: 49.75, y: 0, width: 0.5, height: 8, class: "axis" }));
  return make("li", {},
    make("span", { class: "reason-title" }, title, ...(found ? [": ", make("strong", {}, found)] : [])),
    make("span", { class: `direction ${direction}` }, SIGNS[direction]),
    bar, make("span", { class: "message" }, message));
}
