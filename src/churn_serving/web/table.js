/** A long table, a page at a time. */

import { byId, make } from "./elements.js";
import { counted } from "./words.js";

const PAGE = 20;

/**
 * @template T
 * @typedef {object} View
 * @property {string} caption
 * @property {string[]} columns
 * @property {T[]} rows
 * @property {(row: T, place: number) => (string | Node)[]} cells
 */

export class PagedTable {
  constructor() {
    /** @type {View<any>} */
    this.view = { caption: "", columns: [], rows: [], cells: () => [] };
    this.page = 0;
    byId("previous").onclick = () => this.turn(-1);
    byId("next").onclick = () => this.turn(1);
  }

  /**
   * Show other rows, from their first page on.
   * @template T
   * @param {View<T>} view
   */
  show(view) {
    this.view = view;
    this.page = 0;
    this.draw();
  }

  /** @param {number} pages */
  turn(pages) {
    this.page = Math.min(Math.max(0, this.page + pages), this.pages - 1);
    this.draw();
  }

  get pages() {
    return Math.max(1, Math.ceil(this.view.rows.length / PAGE));
  }

  draw() {
    const { caption, columns, rows, cells } = this.view;
    const first = this.page * PAGE;
    byId("table-caption").textContent = rows.length ? `${caption}: ${counted(rows.length, "row")}` : `${caption}: none`;
    byId("table-head").replaceChildren(make("tr", {}, ...columns.map((name) => make("th", { scope: "col" }, name))));
    byId("table-body").replaceChildren(...rows.slice(first, first + PAGE).map((row, place) =>
      make("tr", {}, ...cells(row, first + place).map((cell, column) =>
        make(column ? "td" : "th", column ? {} : { scope: "row" }, cell)))));
    byId("page-number").textContent = `Page ${this.page + 1} of ${this.pages}`;
    // A button that is disabled under the finger would lose the focus.
    byId("previous").setAttribute("aria-disabled", String(this.page === 0));
    byId("next").setAttribute("aria-disabled", String(this.page === this.pages - 1));
  }
}
