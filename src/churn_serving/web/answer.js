/** The answer for one customer: estimate, decision and reasons. */

import { byId, speak, tell } from "./elements.js";
import { showReasons, startOf } from "./reasons.js";
import { ACTIONS, frequency, likelihood, money, percent } from "./words.js";

/**
 * @typedef {object} Decision
 * @property {"contact" | "leave_alone" | "control"} action
 * @property {number} expected_profit
 * @property {number | null} threshold
 * @property {number | null} break_even_acceptance
 */

/**
 * @typedef {object} Answer
 * @property {number} churn_probability
 * @property {Decision} decision
 * @property {number | null} baseline
 * @property {import("./reasons.js").Reason[] | null} reasons
 * @property {string} model_version
 * @property {string} policy_version
 */

/**
 * Show an answer.
 * @param {Answer} answer
 */
export function showAnswer(answer) {
  const { churn_probability: p, decision, reasons, baseline } = answer;
  byId("answer").classList.remove("stale");
  tell("answer-problem", "");
  byId("probability").textContent = percent(p);
  byId("likelihood").textContent = `${likelihood(p)} to leave`;
  byId("frequency").textContent = frequency(p);
  byId("scale-bar").style.width = `${100 * p}%`;
  const mark = byId("scale-mark");
  mark.hidden = decision.threshold === null || decision.threshold > 1;
  mark.style.left = `${100 * Math.min(decision.threshold ?? 1, 1)}%`;
  const badge = byId("action");
  badge.textContent = ACTIONS[decision.action] ?? decision.action;
  badge.className = `badge ${decision.action}`;
  byId("worth-it").textContent = worth(decision);
  byId("baseline").textContent = startOf(reasons === null ? null : baseline);
  showReasons(byId("reasons"), reasons ?? []);
  speak("answer-spoken", `${percent(p)}, ${likelihood(p)} to leave. ${badge.textContent}. ${worth(decision)}`);
}

/**
 * Say why there is no answer to the fields as they are.
 * @param {string} sentence
 */
export function showProblem(sentence) {
  byId("answer").classList.add("stale");
  tell("answer-problem", sentence);
  speak("answer-spoken", sentence);
}

/** @param {Decision} decision */
function worth({ expected_profit: profit, threshold, break_even_acceptance: acceptance }) {
  const words = [`A contact is expected to ${profit < 0 ? "cost" : "earn"} ${money(Math.abs(profit))}`];
  if (threshold !== null && threshold <= 1) words.push(`it pays above an estimate of ${percent(threshold)}`);
  if (threshold === null || threshold > 1) words.push("it pays at no estimate");
  if (acceptance !== null && acceptance > 0 && acceptance <= 1) {
    words.push(`for this customer, if at least ${percent(acceptance)} of leavers accept the offer`);
  }
  return `${words.join("; ")}.`;
}
