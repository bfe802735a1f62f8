// A lane's arrivals and its end -> what the page shows of them.

import {Track} from "./axis.js";
import {element} from "./element.js";
import {count} from "./lanes.js";
import {PartialJson, treeElement} from "./tree.js";

const MAX_ARRIVALS = 6; // shown; the last ones
const MAX_CHARACTERS = 200; // shown of each

const HEADLINES = {
  whole: "✓ Whole",
  told: "! Failed, and its client knows",
  untold: "✗ Failed, and its client cannot know",
  wrong: "✗ Not whole, though nothing was to fail",
  stopped: "Stopped",
};

/** One lane of the page. Moments are seconds since the run began. */
export class LaneView {
  state = "idle";
  first = null;
  total = null;
  bytes = 0;
  arrivals = 0;
  #lane;
  #track;
  #json = null;
  #changed = false;

  /** `element` is the lane's card, `row` its line in the chart. */
  constructor(lane, axis) {
    this.#lane = lane;
    this.element = copyOf("lane");
    this.row = copyOf("row");
    this.row.dataset.lane = this.element.dataset.lane = lane.name;
    this.element.setAttribute("aria-labelledby", `title-${lane.name}`);
    this.part("title").id = `title-${lane.name}`;
    this.part("title").textContent = lane.title;
    this.part("what").textContent = lane.what;
    this.part("name").textContent = lane.title;
    this.#track = new Track(this.part("track"), axis);
    this.axis = axis;
    this.reset("idle");
  }

  part(name) {
    const selector = `[data-part="${name}"]`;
    return this.element.querySelector(selector) ?? this.row.querySelector(selector);
  }

  reset(state = "waiting") {
    [this.first, this.total, this.bytes, this.arrivals] = [null, null, 0, 0];
    this.#json = this.#lane.tree ? new PartialJson() : null;
    this.part("preview").replaceChildren();
    this.part("headline").textContent = this.part("how").textContent = "";
    this.part("end").hidden = true;
    this.#track.reset();
    this.#enter(state);
    this.#showNumbers();
  }

  arrived(seconds, bytes, text) {
    this.first ??= seconds;
    this.bytes += bytes;
    this.arrivals += 1;
    this.#changed = true;
    this.#track.tick(seconds);
    if (this.#json) this.#json.feed(text);
    else this.#addArrival(seconds, text);
    if (this.state === "waiting") this.#enter("flowing");
  }

  /** How it ended: a state of HEADLINES, and by what its client knows it. */
  ended(seconds, state, how) {
    this.total = seconds;
    this.#enter(state);
    this.part("headline").textContent = HEADLINES[state];
    this.part("how").textContent = how;
    this.part("end").hidden = false;
    this.#changed = true;
    this.draw(seconds);
  }

  get isRunning() {
    return this.state === "waiting" || this.state === "flowing";
  }

  /** Show what is true now. */
  draw(now) {
    if (this.state !== "idle") this.#track.span(this.first, this.total ?? now);
    if (!this.#changed) return;
    this.#changed = false;
    this.#showNumbers();
    if (this.#json) this.part("preview").replaceChildren(treeElement(this.#json));
  }

  /** The axis has changed. */
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
    end.style.left = `${this.axis.percent(this.total)}%`;
  }

  #showNumbers() {
    this.part("first").textContent = this.first === null ? "–" : `${this.first.toFixed(2)} s`;
    this.part("total").textContent = this.total === null ? "–" : `${this.total.toFixed(2)} s`;
    this.part("bytes").textContent = this.bytes.toLocaleString("en");
    this.part("arrivals").textContent = this.arrivals.toLocaleString("en");
  }

  #addArrival(seconds, text) {
    const row = element("div", "arrival");
    const rest = text.length - MAX_CHARACTERS;
    const more = rest > 0 ? `… ${count(rest, "more character")}` : "";
    row.append(element("time", "", `${seconds.toFixed(2)} s`), ...withLineEnds(text.slice(0, MAX_CHARACTERS)), more);
    const preview = this.part("preview");
    preview.append(row);
    if (preview.childElementCount > MAX_ARRIVALS) preview.firstElementChild.remove();
  }
}

function copyOf(id) {
  return document.querySelector(`#${id}`).content.firstElementChild.cloneNode(true);
}

/** Line ends as marks that can be seen. */
function withLineEnds(text) {
  return text.split(/(\n)/).filter(Boolean).map((piece) => {
    return piece === "\n" ? element("span", "line-end", "↵") : piece;
  });
}
