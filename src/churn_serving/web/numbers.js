/**
 * Numbers as people write them: decimal commas, groups of thousands, a sign of money.
 *
 * One table is written in one way, as training reads it: what could mean two numbers, like 1,234, is
 * read only if other cells of the table say which it is.
 */

const GROUP = "[ '\\u2019\\u00a0\\u202f]";
const EXPONENT = "(?:[eE][+-]?[0-9]+)?";
const PLAIN = /^[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?$/;
const WITH_POINT = way("\\.", ",");
const WITH_COMMA = way(",", "\\.");
const MISSING = /^(?:|na|n\/a|nan|null|none|\\N)$/i;
export const MONEY = ["US$", "$", "€", "£", "¥", "₹", "USD", "EUR", "GBP", "CHF"];

/** @typedef {"plain" | "point" | "comma"} Way */

const PATTERNS = { plain: PLAIN, point: WITH_POINT, comma: WITH_COMMA };

/**
 * @param {string} point
 * @param {string} comma
 */
function way(point, comma) {
  const whole = `(?:[0-9]+|[0-9]{1,3}(?:${comma}[0-9]{3})+|[0-9]{1,3}(?:${GROUP}[0-9]{3})+)`;
  return new RegExp(`^[+-]?(?:${whole}(?:${point}[0-9]*)?|${point}[0-9]+)${EXPONENT}$`);
}

/** @param {string} text */
export function isMissing(text) {
  return MISSING.test(text);
}

/**
 * Find out how the numbers of a table are written. Only cells that can be read in one way say so.
 * @param {string[]} cells Trimmed.
 * @returns {Way}
 */
export function wayOf(cells) {
  let points = 0;
  let commas = 0;
  let odd = false;
  for (const text of cells) {
    if (!odd && !PLAIN.test(text) && !MISSING.test(text)) odd = true;
    const point = WITH_POINT.test(text);
    const comma = WITH_COMMA.test(text);
    if (point && !comma) points++;
    if (comma && !point) commas++;
  }
  if (!odd) return "plain";
  if (commas > points) return "comma";
  return points ? "point" : "plain";
}

/**
 * Return the sign of money that every cell carries, if one does.
 * @param {string[]} cells Trimmed.
 */
export function markOf(cells) {
  const mark = MONEY.find((each) => cells.some((text) => text.startsWith(each) || text.endsWith(each)));
  const all = mark && cells.every((text) => MISSING.test(text) || text.startsWith(mark) || text.endsWith(mark));
  return all ? mark : null;
}

/**
 * @param {string} text
 * @param {string | null} mark
 */
export function unmarked(text, mark) {
  if (!mark) return text;
  let rest = text;
  if (rest.startsWith(mark)) rest = rest.slice(mark.length);
  if (rest.endsWith(mark)) rest = rest.slice(0, -mark.length);
  return rest.trim();
}

/**
 * Return the number that a cell holds; NaN if it holds none, or could hold two.
 * @param {string} text Trimmed.
 * @param {Way} how
 */
export function numberIn(text, how) {
  if (!PATTERNS[how].test(text)) return NaN;
  let plain = text.replace(new RegExp(GROUP, "g"), "").replaceAll(how === "comma" ? "." : ",", "");
  if (how === "comma") plain = plain.replace(",", ".");
  return Number(plain);
}
