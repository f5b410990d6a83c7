/** A list of customers: a file is chosen, read and scored. */

import { Refusal } from "./api.js";
import { RAW, ownLayout } from "./columns.js";
import { TableError, textOf, written } from "./csv.js";
import { customersIn } from "./customers.js";
import { byId, tell } from "./elements.js";
import { Results, save } from "./results.js";
import { Scoring } from "./scoring.js";
import { counted, number } from "./words.js";

const MOST_BYTES = 64e6;
const SPOKEN_STEPS = 4;

export class List {
  /**
   * @param {import("./api.js").Api} api
   * @param {import("./schema.js").Field[]} fields
   * @param {Record<string, unknown>} example
   * @param {Results} results
   */
  constructor(api, fields, example, results) {
    this.api = api;
    this.layouts = [RAW, ownLayout(fields)];
    this.results = results;
    /** @type {import("./customers.js").Table | null} */
    this.read = null;
    /** @type {Scoring | null} */
    this.scoring = null;
    this.working = new AbortController();
    this.name = "customers";
    this.listen();
    byId("template").onclick = () => save("customers-example.csv", template(fields, example));
  }

  listen() {
    const input = /** @type {HTMLInputElement} */ (byId("file"));
    input.onchange = () => {
      const file = input.files?.[0];
      // The same file may be chosen again, once it is corrected.
      input.value = "";
      if (file) this.take(file);
    };
    const drop = byId("drop");
    const over = (/** @type {boolean} */ on) => (/** @type {DragEvent} */ event) => {
      event.preventDefault();
      drop.classList.toggle("over", on);
    };
    drop.ondragover = over(true);
    drop.ondragleave = over(false);
    drop.ondrop = (event) => {
      over(false)(event);
      const files = event.dataTransfer?.files ?? [];
      if (files.length === 1) this.take(files[0]);
      else this.say("Drop one CSV file.");
    };
    // A file that misses the place would replace the page.
    window.addEventListener("dragover", (event) => event.preventDefault());
    window.addEventListener("drop", (event) => event.preventDefault());
    byId("stop").onclick = () => this.working.abort();
    byId("resume").onclick = () => this.score();
  }

  /**
   * Read a file and score its customers. A file that cannot be read leaves what is there.
   * @param {File} file
   */
  async take(file) {
    this.working.abort();
    const working = this.working = new AbortController();
    this.say("");
    try {
      if (file.size > MOST_BYTES) {
        throw new TableError(`${file.name} has ${number(Math.round(file.size / 1e6))} MB; this page takes up to `
          + `${number(MOST_BYTES / 1e6)} MB. Split the file, or have it scored in bulk.`);
      }
      byId("working").hidden = false;
      byId("resume").hidden = true;
      byId("working-text").textContent = `Reading ${file.name} …`;
      const table = await customersIn(textOf(await file.arrayBuffer(), file.name), this.layouts, working.signal);
      this.read = table;
      this.name = file.name.replace(/\.[^.]*$/, "");
      this.scoring = new Scoring(this.api, table.items);
    } catch (error) {
      if (working.signal.aborted) return;
      byId("working").hidden = !this.scoring || this.scoring.done;
      this.say(error instanceof TableError ? error.message : `${file.name} cannot be read; is it still there?`);
      return;
    }
    await this.score();
  }

  /** Score what is left of the table. */
  async score() {
    const { scoring } = this;
    if (!scoring) return;
    this.working.abort();
    const working = this.working = new AbortController();
    const all = scoring.items.length;
    this.say("");
    byId("working").hidden = false;
    byId("resume").hidden = true;
    byId("stop").hidden = false;
    let spoken = 0;
    const progress = (/** @type {number | undefined} */ waiting) => {
      const share = all ? scoring.next / all : 1;
      /** @type {HTMLProgressElement} */ (byId("progress")).value = share;
      const text = `Scored ${number(scoring.next)} of ${counted(all, "customer")}`;
      byId("working-text").textContent = waiting ? `${text}. The service is busy; going on in ${counted(waiting, "second")}.` : `${text}.`;
      if (Math.floor(share * SPOKEN_STEPS) > spoken) {
        spoken = Math.floor(share * SPOKEN_STEPS);
        byId("list-spoken").textContent = `${text}.`;
      }
    };
    progress(undefined);
    let problem = "";
    try {
      await scoring.run(working.signal, progress);
    } catch (error) {
      if (working !== this.working) return;
      problem = working.signal.aborted ? "Stopped." : error instanceof Refusal ? error.message : "Something unexpected happened on this page.";
      if (!(error instanceof Refusal) && !working.signal.aborted) console.error(error);
    }
    byId("stop").hidden = true;
    byId("resume").hidden = scoring.done;
    byId("working").hidden = scoring.done;
    if (problem) {
      const kept = scoring.next ? ` The ${counted(scoring.next, "customer")} scored so far ${scoring.next === 1 ? "is" : "are"} below.` : "";
      this.say(`${problem}${kept} Go on when you like.`);
    }
    if (this.read && (scoring.next || scoring.done)) this.results.present(this.name, this.read, scoring);
  }

  /** @param {string} sentence */
  say(sentence) {
    tell("list-problem", sentence);
  }
}

/**
 * @param {import("./schema.js").Field[]} fields
 * @param {Record<string, unknown>} example
 */
function template(fields, example) {
  const names = fields.map(({ name }) => name);
  const values = names.map((name) => {
    const value = example[name] ?? "";
    return typeof value === "number" ? value : String(value);
  });
  return written([["customer_id", ...names], ["example-1", ...values]]);
}
