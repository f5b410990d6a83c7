/** Text between separators: read as people and spreadsheets write it, and written. */

const HEADER_LINES = 30;
const SEPARATORS = [",", ";", "\t", "|"];
const SEPARATOR_LINE = /^"?sep=(.)"?[ \t]*(?:\r\n|\r|\n)/i;

/** @typedef {{cells: string[], line: number, open: boolean}} Row The line it begins in, from 1. Open: a quote never closed. */

/** What cannot be read, in a sentence. */
export class TableError extends Error {}

const KINDS = /** @type {[string, string][]} */ ([
  ["\xd0\xcf\x11\xe0", "an Excel workbook (.xls): save the sheet as CSV"],
  ["PK\x03\x04", "a packed file or an Excel workbook: save the sheet as CSV, or unpack it"],
  ["\x1f\x8b", "a packed file (.gz): unpack it first"],
  ["PAR1", "a Parquet file: save the table as CSV"],
  ["%PDF", "a PDF document"],
  ["SQLite format 3\0", "an SQLite database: export the table as CSV"],
  ["\x89PNG", "a picture"],
  ["\xff\xd8\xff", "a picture"],
  ["GIF8", "a picture"],
]);
const MARKS = /** @type {[string, string][]} */ ([
  ["\xef\xbb\xbf", "utf-8"], ["\xff\xfe", "utf-16le"], ["\xfe\xff", "utf-16be"],
]);
const MARKUP = /^\s*(?:<!doctype|<html|<\?xml|<table)/i;

/**
 * Return the text of a file: UTF-8, UTF-16, or else Windows-1252.
 * @param {ArrayBuffer} buffer
 * @param {string} name
 */
export function textOf(buffer, name) {
  const bytes = new Uint8Array(buffer);
  const head = String.fromCharCode(...bytes.subarray(0, 512));
  const kind = KINDS.find(([magic]) => head.startsWith(magic));
  if (kind) throw new TableError(`${name} is ${kind[1]}.`);
  const marked = MARKS.find(([mark]) => head.startsWith(mark));
  const text = decoded(bytes, marked?.[1] ?? unmarked(bytes));
  if (text.includes("\0")) throw new TableError(`${name} is no text, so it is no CSV table.`);
  if (!text.trim()) throw new TableError(`${name} is empty: expected a line of column names, and customers below it.`);
  if (MARKUP.test(text)) throw new TableError(`${name} is a web page or XML: expected a CSV table.`);
  if (/^\s*[[{]/.test(text)) throw new TableError(`${name} is JSON: expected a CSV table.`);
  return text;
}

/**
 * @param {Uint8Array} bytes
 * @param {string} encoding
 */
function decoded(bytes, encoding) {
  try {
    return new TextDecoder(encoding, { fatal: true }).decode(bytes);
  } catch {
    return new TextDecoder(encoding === "utf-8" ? "windows-1252" : encoding).decode(bytes);
  }
}

/** Tell UTF-16 without a mark by its zeros: every other byte of an ASCII letter.
 * @param {Uint8Array} bytes */
function unmarked(bytes) {
  const start = bytes.subarray(0, 64);
  const even = start.filter((_, place) => place % 2 === 0);
  const odd = start.filter((_, place) => place % 2 === 1);
  const [someEven, someOdd] = [even.some(Boolean), odd.some(Boolean)];
  if (someEven && !someOdd && odd.length) return "utf-16le";
  return someOdd && !someEven ? "utf-16be" : "utf-8";
}

/**
 * Read rows from a place of a text on. Quotes may hold separators, line ends and doubled quotes.
 * @param {string} text
 * @param {{separator: string, quote?: string, from?: number, line?: number}} how
 * @returns {Generator<Row & {end: number}>} End: where the next row begins.
 */
export function* rowsOf(text, { separator, quote = '"', from = 0, line = 1 }) {
  const plain = new RegExp(`[${separator === "|" ? "\\|" : separator === "\t" ? "\\t" : escaped(separator)}\r\n]`, "g");
  let at = from;
  while (at < text.length) {
    const row = { cells: /** @type {string[]} */ ([]), line, open: false, end: text.length };
    for (;;) {
      let cell = "";
      let start = at;
      while (text[start] === " ") start++;
      if (text[start] === quote) {
        at = start + 1;
        for (;;) {
          const close = text.indexOf(quote, at);
          if (close < 0) {
            row.open = true;
            cell += text.slice(at);
            at = text.length;
            break;
          }
          cell += text.slice(at, close);
          at = close + 1;
          if (text[at] !== quote) break;
          cell += quote;
          at++;
        }
        line += lineEnds(cell);
      }
      plain.lastIndex = at;
      const next = plain.exec(text);
      const stop = next ? next.index : text.length;
      cell += text.slice(at, stop);
      row.cells.push(cell);
      at = stop + 1;
      if (!next || next[0] !== separator) {
        if (next?.[0] === "\r" && text[at] === "\n") at++;
        break;
      }
    }
    line++;
    row.end = Math.min(at, text.length);
    yield row;
  }
}

/** @param {string} text */
function lineEnds(text) {
  return (text.match(/\r\n|\r|\n/g) ?? []).length;
}

/** @param {string} letter */
function escaped(letter) {
  return /[\\\]^-]/.test(letter) ? `\\${letter}` : letter;
}

/**
 * Find the line that names the columns best, among the first ones and with each separator.
 * @param {string} text
 * @param {(names: string[]) => number} recognised How many of the names are known.
 */
export function headerOf(text, recognised) {
  const said = SEPARATOR_LINE.exec(text);
  const separators = said ? [said[1]] : SEPARATORS;
  const begin = said ? said[0].length : 0;
  let best = null;
  let first = null;
  const lines = rowsStarts(text, begin, said ? 2 : 1);
  for (const { from, line, start } of lines) {
    for (const separator of separators) {
      for (const quote of start === "'" ? ["'", '"'] : ['"']) {
        const row = rowsOf(text, { separator, quote, from, line }).next().value;
        if (!row) continue;
        const header = { names: row.cells, separator, quote, end: row.end, line, nextLine: row.line + 1 + lineEnds(row.cells.join("")) };
        if (!first || (first.line === line && header.names.length > first.names.length)) first = header;
        const known = recognised(header.names);
        if (known && (!best || known > best.known)) best = { known, header };
      }
    }
  }
  return best?.header ?? first;
}

/**
 * @param {string} text
 * @param {number} begin
 * @param {number} firstLine
 */
function rowsStarts(text, begin, firstLine) {
  const found = [];
  const end = /\r\n|\r|\n/g;
  let from = begin;
  for (let line = firstLine; line < firstLine + HEADER_LINES && from < text.length; line++) {
    end.lastIndex = from;
    const next = end.exec(text);
    const stop = next ? next.index : text.length;
    const words = text.slice(from, stop).trim();
    if (words) found.push({ from, line, start: words[0] });
    from = next ? stop + next[0].length : text.length;
  }
  return found;
}

/**
 * Write a table that a spreadsheet opens, and in which no text of a customer is a formula.
 * @param {(string | number | null)[][]} rows
 */
export function written(rows) {
  return `\ufeff${rows.map((row) => row.map(cell).join(",")).join("\r\n")}\r\n`;
}

/** @param {string | number | null} value */
function cell(value) {
  if (value === null) return "";
  if (typeof value === "number") return String(value);
  const text = /^[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]/.test(value) ? `'${value}` : value;
  return /[",;\r\n\t]/.test(text) || text !== text.trim() ? `"${text.replaceAll('"', '""')}"` : text;
}
