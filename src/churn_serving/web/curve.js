/** The profit curve: its four figures, its picture, and what it says in words. */

import { numberOf, unit } from "./controls.js";
import { byId, draw, make, speak, tell } from "./elements.js";
import { ProfitCurve, thresholdOf } from "./profit.js";
import { FIGURES, counted, money, percent } from "./words.js";

/** @typedef {import("./profit.js").Policy} Policy */
/** @typedef {import("./profit.js").Point} Point */

const [WIDTH, HEIGHT] = [640, 340];
const INSIDE = { left: 64, right: 624, top: 30, bottom: 290 };
const DEFAULT_END = 0.6;
const ROWS = 10;

/**
 * Show the curve of a model, or say that it has none.
 * @param {any} model What /metrics/model says of it.
 * @param {Policy} served
 */
export function showWorth(model, served) {
  const measured = model.profit;
  byId("worth-body").hidden = !measured;
  if (!measured) {
    byId("worth-lead").textContent = "The served model was registered without a profit curve: "
      + "it was not measured on customers whose outcome is known. Train it anew to have one.";
    return;
  }
  const curve = new ProfitCurve(measured);
  byId("worth-lead").textContent = `Measured on ${counted(curve.customers, "customer")} whom the model did not see in `
    + `training${sourceOf(model)}; ${counted(curve.leavers, "of them", "of them")} left. It shows what each customer would have earned on `
    + "average, had all above an estimate been contacted.";
  const fields = Object.entries(FIGURES).map(([name, figure]) => figureRow(name, figure));
  byId("policy-fields").replaceChildren(...fields);
  byId("policy-note").textContent = "Try other figures: they change this picture only. The service decides by the served ones.";
  const fill = () => {
    for (const [name, { unit: mark }] of Object.entries(FIGURES)) {
      const value = served[/** @type {keyof Policy} */ (name)];
      /** @type {HTMLInputElement} */ (byId(`policy-${name}`)).value = String(Number((mark === "%" ? 100 * value : value).toPrecision(12)));
    }
  };
  const update = () => {
    const policy = typedPolicy();
    tell("policy-problem", typeof policy === "string" ? policy : "");
    if (typeof policy !== "string") show(curve, policy, served);
  };
  byId("policy").oninput = update;
  byId("policy").onsubmit = (event) => event.preventDefault();
  byId("policy-reset").onclick = () => { fill(); update(); };
  fill();
  update();
}

/** @param {any} model */
function sourceOf(model) {
  const source = model.data?.source;
  return typeof source === "string" ? ` (${source})` : "";
}

/**
 * @param {string} name
 * @param {{label: string, unit: string, step: number, min: number, max: number}} figure
 */
function figureRow(name, { label, unit: mark, step, min, max }) {
  const id = `policy-${name}`;
  return make("div", { class: "field" }, make("label", { for: id }, label, unit(mark)),
    make("input", { id, type: "number", min, max, step, inputmode: "decimal" }));
}

/** Return the figures as typed, or what is wrong with them.
 * @returns {Policy | string} */
function typedPolicy() {
  /** @type {Record<string, number>} */
  const policy = {};
  for (const [name, { label, unit: mark, min, max }] of Object.entries(FIGURES)) {
    const input = /** @type {HTMLInputElement} */ (byId(`policy-${name}`));
    const value = numberOf(input.value);
    const bad = value === undefined || value < min || value > max;
    input.toggleAttribute("aria-invalid", false);
    if (bad) {
      input.setAttribute("aria-invalid", "true");
      const range = mark === "%" ? "from 0 to 100" : value !== undefined && value > max
        ? `of up to ${max.toLocaleString("en-US")}` : min > 0 ? "greater than 0" : "of 0 or more";
      return `${label}: expected a number ${range}.`;
    }
    policy[name] = mark === "%" ? value / 100 : value;
  }
  return /** @type {Policy} */ (/** @type {unknown} */ (policy));
}

/**
 * @param {ProfitCurve} curve
 * @param {Policy} policy
 * @param {Policy} served
 */
function show(curve, policy, served) {
  const points = curve.points(policy);
  const threshold = thresholdOf(policy);
  const own = curve.at(policy, threshold);
  const differs = Object.keys(FIGURES).some((name) => {
    const key = /** @type {keyof Policy} */ (name);
    return Math.abs(policy[key] - served[key]) > 1e-9 * Math.max(1, Math.abs(served[key]));
  });
  const other = differs ? curve.at(policy, thresholdOf(served)) : null;
  byId("curve").replaceChildren(picture(points, own, other));
  const said = caption(curve, own, other);
  byId("curve-caption").textContent = said;
  speak("curve-spoken", said);
  byId("curve-rows").replaceChildren(...Array.from({ length: ROWS }, (_, place) => row(curve.at(policy, place / ROWS))));
}

/**
 * @param {ProfitCurve} curve
 * @param {Point} own
 * @param {Point | null} other
 */
function caption(curve, own, other) {
  if (!Number.isFinite(own.threshold) || own.threshold >= 1) {
    return "With these figures a contact pays at no estimate: nobody would be contacted.";
  }
  const share = (/** @type {Point} */ point) => counted(Math.round(point.contacted * curve.customers), "customer");
  const words = [`${other ? "With these figures a" : "A"} contact pays above ${percent(own.threshold)}: ${share(own)} of `
    + `${curve.customers.toLocaleString("en-US")} contacted, ${range(own)} per customer.`];
  if (other) {
    words.push(Number.isFinite(other.threshold) && other.threshold < 1
      ? `The served policy contacts above ${percent(other.threshold)}; at these figures that earns ${range(other)}.`
      : "The served policy contacts nobody.");
  }
  return words.join(" ");
}

/** @param {Point} point */
function range({ profit, low, high }) {
  return `${money(profit)} (95% interval ${money(low)} to ${money(high)})`;
}

/** @param {Point} point */
function row(point) {
  return make("tr", {}, make("th", { scope: "row" }, percent(point.threshold)),
    make("td", {}, percent(point.contacted)), make("td", {}, money(point.profit)),
    make("td", {}, `${money(point.low)} to ${money(point.high)}`));
}

/**
 * Draw the curve, its interval, and where the policies stand.
 * @param {Point[]} all
 * @param {Point} own
 * @param {Point | null} served
 */
function picture(all, own, served) {
  const marks = [own, ...(served ? [served] : [])].filter(({ threshold }) => threshold < 1);
  const end = Math.min(1, Math.max(DEFAULT_END, ...marks.map(({ threshold }) => threshold + 0.1)));
  const points = all.filter(({ threshold }) => threshold <= end + 1e-9);
  const lows = points.map(({ low }) => low);
  const highs = points.map(({ high }) => high);
  const ticks = ticksBetween(Math.min(0, ...lows), Math.max(0, ...highs));
  const [bottom, top] = [ticks[0], ticks[ticks.length - 1]];
  const x = (/** @type {number} */ value) => INSIDE.left + (value / end) * (INSIDE.right - INSIDE.left);
  const y = (/** @type {number} */ value) => INSIDE.bottom - ((value - bottom) / (top - bottom)) * (INSIDE.bottom - INSIDE.top);
  const path = (/** @type {[number, number][]} */ corners) => corners.map(([a, b], place) => `${place ? "L" : "M"}${x(a).toFixed(1)} ${y(b).toFixed(1)}`).join("");
  const band = [...points.map((point) => /** @type {[number, number]} */ ([point.threshold, point.low])),
    ...[...points].reverse().map((point) => /** @type {[number, number]} */ ([point.threshold, point.high]))];
  return draw("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": spoken(own, end, points) },
    ...ticks.flatMap((value) => [
      draw("line", { x1: INSIDE.left, x2: INSIDE.right, y1: y(value), y2: y(value), class: value === 0 ? "zero" : "grid" }),
      draw("text", { x: INSIDE.left - 8, y: y(value) + 4, class: "tick end" }, money(value).replace(/\.00$/, "")),
    ]),
    ...ticksBetween(0, end).filter((value) => value <= end + 1e-9).map((value) =>
      draw("text", { x: x(value), y: INSIDE.bottom + 20, class: "tick middle" }, `${Math.round(100 * value)}%`)),
    draw("text", { x: (INSIDE.left + INSIDE.right) / 2, y: HEIGHT - 8, class: "title middle" }, "Contact all above this estimate"),
    draw("text", { x: 4, y: 14, class: "title" }, "Profit per customer, with its 95% interval"),
    draw("path", { d: `${path(band)}Z`, class: "band" }),
    draw("path", { d: path(points.map(({ threshold, profit }) => [threshold, profit])), class: "curve" }),
    ...(served && served.threshold < 1 ? mark(served, "served", "served", x, y, own.threshold > served.threshold) : []),
    ...(own.threshold < 1 ? mark(own, "own", served ? "these figures" : "the policy", x, y, served !== null && own.threshold <= served.threshold) : []));
}

/**
 * @param {Point} point
 * @param {string} kind
 * @param {string} label
 * @param {(value: number) => number} x
 * @param {(value: number) => number} y
 * @param {boolean} before Whether the label stands to the left.
 */
function mark({ threshold, profit }, kind, label, x, y, before) {
  const place = x(threshold);
  const left = before && place > INSIDE.left + 90;
  return [
    draw("line", { x1: place, x2: place, y1: INSIDE.top, y2: INSIDE.bottom, class: `mark ${kind}` }),
    draw("circle", { cx: place, cy: y(profit), r: 5, class: `dot ${kind}` }),
    draw("text", { x: place + (left ? -7 : 7), y: INSIDE.bottom - 8, class: `label ${kind}${left ? " end" : ""}` }, `${label}: ${percent(threshold)}`),
  ];
}

/**
 * @param {Point} own
 * @param {number} end
 * @param {Point[]} points
 */
function spoken(own, end, points) {
  const best = points.reduce((one, other) => (other.profit > one.profit ? other : one));
  const policy = own.threshold < 1 ? ` The policy stands at ${percent(own.threshold)} with ${money(own.profit)}.` : "";
  return `Profit per customer when all above an estimate are contacted, for estimates from 0% to ${Math.round(100 * end)}%. `
    + `It is highest at ${percent(best.threshold)} with ${money(best.profit)}.${policy}`;
}

/**
 * Return round values that hold a range between them.
 * @param {number} low
 * @param {number} high
 */
function ticksBetween(low, high) {
  // Where nothing costs or earns anything, all is 0.
  const wide = high > low ? Math.max(high - low, 1e-6) : 1;
  const power = 10 ** Math.floor(Math.log10(wide / 4));
  const step = [1, 2, 5, 10].map((times) => times * power).find((each) => wide / each <= 6) ?? 10 * power;
  const first = Math.floor(low / step + 1e-9);
  const last = Math.max(first + 1, Math.ceil(high / step - 1e-9));
  return Array.from({ length: last - first + 1 }, (_, place) => (first + place) * step);
}
