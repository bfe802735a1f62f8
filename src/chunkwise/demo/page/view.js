// The arrivals and the end of a lane -> its row in the chart, and its card.

import {Track} from "./axis.js";
import {element} from "./element.js";
import {count} from "./lanes.js";
import {treeElement} from "./tree.js";

const MAX_ARRIVALS = 6; // only the last arrivals are shown
const MAX_CHARACTERS = 200; // shown of each arrival

const HEADLINES = {
  whole: (items, of) => `✓ Complete: ${items} of ${count(of, "item")}`,
  detected: (items, of) => `✗ ${items} of ${count(of, "item")}, and the client knows`,
  undetected: (items, of) => `✗ ${items} of ${count(of, "item")}, but the client cannot know`,
  wrong: (items, of) => `✗ Not complete: ${items} of ${count(of, "item")}`,
  stopped: (items, of) => `■ Stopped after ${items} of ${count(of, "item")}`,
};

/** One lane of the page. Times are seconds since the start of the run. */
export class LaneView {
  state = "idle";
  first = null; // when the first complete item arrived
  total = null;
  bytes = 0;
  #lane;
  #axis;
  #track;
  #expected = 0;
  #items;
  #changed = false;

  /** `element` is the card of the lane, `row` its row in the chart. */
  constructor(lane, axis) {
    this.#lane = lane;
    this.#axis = axis;
    this.element = copyOf("lane");
    this.row = copyOf("row");
    this.row.dataset.lane = this.element.dataset.lane = lane.name;
    this.element.setAttribute("aria-labelledby", `title-${lane.name}`);
    this.part("title").id = `title-${lane.name}`;
    this.part("title").textContent = lane.title;
    this.part("what").textContent = lane.what;
    this.part("name").textContent = lane.title;
    this.#track = new Track(this.part("track"), axis);
    this.reset(0, "idle");
  }

  part(name) {
    const selector = `[data-part="${name}"]`;
    return this.element.querySelector(selector) ?? this.row.querySelector(selector);
  }

  /** Start a run of this many items. */
  reset(expected, state = "waiting") {
    [this.first, this.total, this.bytes] = [null, null, 0];
    this.#expected = expected;
    this.#items = this.#lane.items();
    this.part("preview").replaceChildren();
    this.part("headline").textContent = state === "idle" ? "" : "Waiting …";
    this.part("how").textContent = "";
    this.part("end").hidden = true;
    this.#track.reset();
    this.#enter(state);
    this.#showNumbers();
  }

  /** Show an arrival; lanes.js has its kinds. */
  arrived(seconds, bytes, text, kind) {
    this.bytes += bytes;
    this.#items.add(text, kind === "item");
    if (this.#items.count) this.first ??= seconds;
    this.#changed = true;
    this.#track.tick(seconds, kind === "error");
    if (!this.#lane.tree) this.#addArrival(seconds, text, kind);
    if (this.state === "waiting" && this.first !== null) {
      this.#enter("flowing");
      this.part("headline").textContent = "Receiving …";
    }
  }

  /** Show how the response ended: `state` is a key of HEADLINES, and `how` is a text that says what shows it. */
  ended(seconds, state, how) {
    this.total = seconds;
    this.#enter(state);
    this.part("headline").textContent = HEADLINES[state](this.#items.count, this.#expected);
    this.part("how").textContent = how;
    this.part("end").hidden = false;
    this.#changed = true;
    this.draw(seconds);
  }

  /** Whether every expected item has arrived. */
  get hasAll() {
    return this.#items.count === this.#expected;
  }

  get isRunning() {
    return this.state === "waiting" || this.state === "flowing";
  }

  /** Show the present state. Without motion, the bar is drawn only once, with its final length. */
  draw(now, hasMotion = true) {
    if (this.state !== "idle" && (hasMotion || !this.isRunning)) this.#track.span(this.first, this.total ?? now);
    if (!this.#changed) return;
    this.#changed = false;
    this.#showNumbers();
    if (this.#lane.tree) this.part("preview").replaceChildren(treeElement(this.#items.json));
  }

  /** Redraw the lane after a change of the axis. */
  rescale() {
    this.#track.rescale();
    if (this.total !== null) this.#placeEnd();
  }

  #enter(state) {
    this.state = state;
    this.element.dataset.state = this.row.dataset.state = state;
    if (this.total !== null) this.#placeEnd();
  }

  #placeEnd() {
    const end = this.part("end");
    end.textContent = this.state === "whole" ? "✓" : this.state === "stopped" ? "■" : "✗";
    end.style.left = `${this.#axis.percent(this.total)}%`;
  }

  #showNumbers() {
    const none = this.total === null ? "–" : "never";
    const first = this.first === null ? none : `${this.first.toFixed(2)} s`;
    this.part("first").textContent = this.part("when").textContent = first;
    this.part("total").textContent = this.total === null ? "–" : `${this.total.toFixed(2)} s`;
    this.part("items").textContent = this.#items.count.toLocaleString("en");
    this.part("bytes").textContent = this.bytes.toLocaleString("en");
  }

  #addArrival(seconds, text, kind) {
    const row = element("div", "arrival");
    row.dataset.kind = kind;
    const rest = text.length - MAX_CHARACTERS;
    const more = rest > 0 ? `… ${count(rest, "more character")}` : "";
    const shown = element("span");
    shown.append(...withLineEnds(text.slice(0, MAX_CHARACTERS)), more);
    row.append(element("time", "", `${seconds.toFixed(2)} s`), shown);
    const preview = this.part("preview");
    preview.append(row);
    if (preview.childElementCount > MAX_ARRIVALS) preview.firstElementChild.remove();
  }
}

function copyOf(id) {
  return document.querySelector(`#${id}`).content.firstElementChild.cloneNode(true);
}

/** The text with a visible mark at each line end. */
function withLineEnds(text) {
  return text.split(/(\n)/).filter(Boolean).flatMap((part, index, all) => {
    if (part !== "\n") return [part];
    return [element("span", "line-end", "↵"), ...(index + 1 < all.length ? ["\n"] : [])];
  });
}
