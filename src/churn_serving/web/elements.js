/** Elements of the page. Text from elsewhere becomes text, never markup. */

/**
 * Return the element with this id.
 * @template {HTMLElement} [T=HTMLElement]
 * @param {string} id
 * @returns {T}
 */
export function byId(id) {
  return /** @type {T} */ (document.getElementById(id));
}

/**
 * Make an element.
 * @param {string} tag
 * @param {Record<string, string | number | boolean | undefined>} [attributes] True: without a value; false: none.
 * @param {...(string | Node)} children
 */
export function make(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/**
 * Make an element of a picture.
 * @param {string} tag
 * @param {Record<string, string | number | boolean | undefined>} [attributes]
 * @param {...(string | Node)} children
 */
export function draw(tag, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

/**
 * Show a sentence, or hide its place.
 * @param {string} id
 * @param {string} sentence
 */
export function tell(id, sentence) {
  const place = byId(id);
  place.hidden = !sentence;
  if (place.textContent !== sentence) place.textContent = sentence;
}

const RESTED = 900;
/** @type {Map<string, number>} */
const speaking = new Map();

/**
 * Let a screen reader say something, once it rests: while a slider moves it says nothing.
 * @param {string} id The place's, which nobody sees.
 * @param {string} text
 */
export function speak(id, text) {
  clearTimeout(speaking.get(id));
  speaking.set(id, setTimeout(() => { byId(id).textContent = text; }, RESTED));
}

/**
 * @template {Element} T
 * @param {T} element
 * @param {Record<string, string | number | boolean | undefined>} attributes
 * @param {(string | Node)[]} children
 * @returns {T}
 */
function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== false) {
      element.setAttribute(name, value === true ? "" : String(value));
    }
  }
  element.append(...children);
  return element;
}
