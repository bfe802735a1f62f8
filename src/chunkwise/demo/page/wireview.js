// The bytes of a lane's response, read by the server from its own socket -> rows, each part marked with its meaning.

import {element} from "./element.js";
import {closeQuietly, count, urlOf} from "./lanes.js";
import {WireReader, hex} from "./wire.js";

// At most 20,000 characters are shown: the first and the last rows, and the start of each.
const FIRST_ROWS = 50;
const LAST_ROWS = 50;
const ROW_CHARACTERS = 200;

/** The raw bytes in a card. They are requested once for each run, and only while the card is open. */
export class WireView {
  #lane;
  #details;
  #list;
  #doing;
  #legend;
  #settings = null; // the settings of the run whose bytes are shown
  #socket = null;
  #reader = null;
  #row = null;
  #more = null;
  #hiddenRows = 0;
  #bytes = 0;

  constructor(lane, details) {
    this.#lane = lane;
    this.#details = details;
    this.#list = details.querySelector("ol");
    this.#doing = details.querySelector(".doing");
    this.#legend = details.querySelectorAll(".legend [data-for]");
    this.#doing.textContent = "The bytes are shown with the next run.";
    details.addEventListener("toggle", () => this.#follow());
  }

  /** Show the bytes of a run that has just started. */
  begin(settings) {
    this.stop();
    this.#settings = settings;
    this.#reader = null;
    this.#clear();
    this.#follow();
  }

  /** Stop receiving. The rows remain. */
  stop() {
    if (!this.#socket) return;
    closeQuietly(this.#socket);
    this.#socket = null;
    this.#doing.textContent = `Stopped after ${count(this.#bytes, "byte")}.`;
  }

  #follow() {
    if (this.#details.open && this.#settings && !this.#reader) this.#request();
    else if (!this.#details.open && this.#socket) {
      this.stop();
      this.#reader = null; // when the card is opened again, all bytes are requested again
    }
  }

  #request() {
    this.#reader = new WireReader();
    this.#clear();
    this.#doing.textContent = "The server sends this request to itself …";
    const socket = new WebSocket(urlOf(this.#lane, this.#settings, "wire/").replace(/^http/, "ws"));
    this.#socket = socket;
    socket.onmessage = ({data}) => this.#receive(JSON.parse(data));
    socket.onclose = ({code, reason}) => {
      this.#socket = null;
      if (code === 1000) return;
      this.#doing.textContent = `The server cannot show the bytes: ${[code, reason].join(" ").trim()}.`;
    };
  }

  #receive({seconds, bytes, end}) {
    if (end) {
      const how = end === "reset" ? "the connection was reset" : "the connection was closed";
      const bytes = count(this.#bytes, "byte");
      this.#doing.textContent = `The server sent this request to itself and recorded ${bytes}, then ${how}.`;
    } else {
      if (!this.#bytes) this.#doing.textContent = "The server sent this request to itself and records the bytes …";
      this.#bytes += bytes.length;
    }
    const parts = end ? this.#reader.finish(end) : this.#reader.feed(bytes);
    parts.forEach((part, index) => this.#show(part, index === 0 ? seconds : null));
    this.#list.scrollTop = end ? 0 : this.#list.scrollHeight;
  }

  #clear() {
    this.#list.replaceChildren();
    for (const entry of this.#legend) entry.hidden = true;
    [this.#row, this.#more, this.#hiddenRows, this.#bytes] = [null, null, 0, 0];
  }

  /** Show the entry of the legend for a kind of part. */
  #explain(kind) {
    for (const entry of this.#legend) if (entry.dataset.for === kind) entry.hidden = false;
  }

  #show(part, seconds) {
    if (part.row || !this.#row) this.#row = this.#addRow();
    const row = this.#row;
    if (seconds !== null) row.moment.textContent ||= `${seconds.toFixed(2)} s`;
    if (part.note) row.note.textContent = part.note;
    if (part.kind === "crlf") {
      row.code.append(mark("crlf", "CR LF"));
      this.#explain("crlf");
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
    if (row.last?.dataset.kind !== kind) {
      row.last = row.code.appendChild(mark(kind, ""));
      this.#explain(kind);
    }
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
