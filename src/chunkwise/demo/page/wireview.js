// The bytes of a lane's answer, asked of the server -> rows of the page, each part marked by what it means.

import {element} from "./element.js";
import {closeQuietly, count, urlOf} from "./lanes.js";
import {WireReader, hex} from "./wire.js";

// What is shown is 20,000 characters at most: so many rows at the beginning, so many at the end, so long ones.
const FIRST_ROWS = 50;
const LAST_ROWS = 50;
const ROW_CHARACTERS = 200;

/** What is below "The wire". It asks only while it is open, once for each run. */
export class WireView {
  #lane;
  #details;
  #list;
  #settings = null; // of the run whose wire this is
  #socket = null;
  #reader = null;
  #row = null;
  #more = null;
  #hiddenRows = 0;

  constructor(lane, details) {
    this.#lane = lane;
    this.#details = details;
    this.#list = details.querySelector("ol");
    details.addEventListener("toggle", () => this.#follow());
  }

  /** A run has begun: this is its wire from now on. */
  begin(settings) {
    this.stop();
    this.#settings = settings;
    this.#reader = null;
    this.#list.replaceChildren();
    this.#follow();
  }

  /** Stop asking. The rows stay. */
  stop() {
    if (this.#socket) closeQuietly(this.#socket);
    this.#socket = null;
  }

  #follow() {
    if (this.#details.open && this.#settings && !this.#reader) this.#ask();
    else if (!this.#details.open && this.#socket) {
      this.stop();
      this.#reader = null; // who opens it again sees all of it
    }
  }

  #ask() {
    this.#reader = new WireReader();
    this.#list.replaceChildren();
    [this.#row, this.#more, this.#hiddenRows] = [null, null, 0];
    const socket = new WebSocket(urlOf(this.#lane, this.#settings, "wire/").replace(/^http/, "ws"));
    this.#socket = socket;
    socket.onmessage = ({data}) => {
      const {seconds, bytes, end} = JSON.parse(data);
      const parts = end ? this.#reader.finish(end) : this.#reader.feed(bytes);
      parts.forEach((part, index) => this.#show(part, index === 0 ? seconds : null));
      this.#list.scrollTop = this.#list.scrollHeight;
    };
    socket.onclose = ({code, reason}) => {
      this.#socket = null;
      if (code === 1000) return;
      this.#show({kind: "missing", row: true, text: "the server does not show it", note: `${code} ${reason}`}, null);
    };
  }

  #show(part, seconds) {
    if (part.row || !this.#row) this.#row = this.#addRow();
    const row = this.#row;
    if (seconds !== null) row.moment.textContent ||= `${seconds.toFixed(2)} s`;
    if (part.note) row.note.textContent = part.note;
    if (part.kind === "crlf") {
      row.code.append(mark("crlf", "CR LF"));
      return;
    }
    const shown = part.text.slice(0, Math.max(0, ROW_CHARACTERS - row.shown));
    row.shown += shown.length;
    row.hidden += part.text.length - shown.length;
    if (shown) this.#append(row, part.kind, shown);
    if (!row.hidden) return;
    row.more ??= row.code.appendChild(mark("more", ""));
    row.more.textContent = `… ${count(row.hidden, "more byte")}`;
  }

  #append(row, kind, text) {
    if (row.last?.dataset.kind !== kind) row.last = row.code.appendChild(mark(kind, ""));
    for (const piece of text.split(/(\n|[^\n\x20-\x7e])/).filter(Boolean)) {
      if (piece === "\n") row.last.append(mark("lf", "LF"));
      else row.last.append(piece.length > 1 || /[\x20-\x7e]/.test(piece) ? piece : `\\x${hex(piece)}`);
    }
  }

  #addRow() {
    const [item, bytes, moment, code] = ["li", "div", "time", "code"].map((name) => element(name));
    const row = {moment, code, note: mark("note", ""), shown: 0, hidden: 0, last: null, more: null};
    bytes.append(code, row.note);
    item.append(moment, bytes);
    this.#list.append(item);
    if (this.#list.childElementCount - (this.#more ? 1 : 0) > FIRST_ROWS + LAST_ROWS) this.#hideOneRow();
    return row;
  }

  #hideOneRow() {
    if (!this.#more) {
      this.#more = element("li", "more");
      this.#list.children[FIRST_ROWS].before(this.#more);
    }
    this.#more.nextElementSibling.remove();
    this.#hiddenRows += 1;
    this.#more.textContent = `… ${count(this.#hiddenRows, "row")} not shown …`;
  }
}

function mark(kind, text) {
  const made = element("span", kind, text);
  made.dataset.kind = kind;
  return made;
}
