// Seconds -> positions on the time axis that all lanes share, and its ruler.

import {element} from "./element.js";

const STEPS = [0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 3600];
const MAX_STEPS = 6; // the ruler has no more steps than this
const SVG = "http://www.w3.org/2000/svg";

/** A scale that grows: `seconds` is the value at its right end. */
export class Axis {
  seconds = 0;
  step = 0;
  #ruler;

  constructor(ruler) {
    this.#ruler = ruler;
  }

  /** Reset the scale for a run of about this many seconds. */
  reset(seconds) {
    this.seconds = 0;
    this.fit(seconds);
  }

  /** Extend the scale to this many seconds. Return whether it has changed. */
  fit(seconds) {
    if (seconds <= this.seconds) return false;
    this.step = STEPS.find((step) => seconds <= step * MAX_STEPS) ?? Math.ceil(seconds / MAX_STEPS);
    this.seconds = Math.ceil(seconds / this.step - 1e-9) * this.step;
    this.#ruler.replaceChildren(...this.marks().map((mark) => this.#label(mark)));
    return true;
  }

  /** The seconds at which the ruler has a line. */
  marks() {
    return Array.from({length: Math.round(this.seconds / this.step) + 1}, (_, index) => index * this.step);
  }

  /** The position of a time, in percent of the width. */
  percent(seconds) {
    return Math.min(100, (100 * seconds) / this.seconds);
  }

  #label(mark) {
    const label = element("span", "", `${Number(mark.toFixed(2))} s`);
    label.style.left = `${this.percent(mark)}%`;
    return label;
  }
}

/** The bar of a lane: how long it waited, how long it received, and a tick for each arrival. */
export class Track {
  #axis;
  #svg;
  #grid = shape("g", "grid");
  #waiting = shape("rect", "waiting", {x: 0, y: 0.3, height: 0.4});
  #flowing = shape("rect", "flowing", {y: 0.3, height: 0.4});
  #ticks = shape("g", "ticks");
  #lastTick = -Infinity;

  constructor(svg, axis) {
    this.#svg = svg;
    this.#axis = axis;
    svg.append(this.#grid, this.#waiting, this.#flowing, this.#ticks);
  }

  reset() {
    this.#ticks.replaceChildren();
    this.#lastTick = -Infinity;
    this.rescale();
    this.span(null, 0);
  }

  /** Add an arrival. Arrivals that are too close to be seen apart share a tick. */
  tick(seconds, isError = false) {
    if (seconds - this.#lastTick < this.#axis.seconds / 1000) return;
    this.#lastTick = seconds;
    this.#ticks.append(shape("line", isError ? "tick error" : "tick", {x1: seconds, x2: seconds, y1: 0.08, y2: 0.92}));
  }

  /** Show the wait for the first item (null while it lasts), and the time from then to now. */
  span(first, now) {
    this.#waiting.setAttribute("width", first ?? now);
    this.#flowing.setAttribute("x", first ?? now);
    this.#flowing.setAttribute("width", now - (first ?? now));
  }

  /** Redraw the lane after a change of the axis. */
  rescale() {
    this.#svg.setAttribute("viewBox", `0 0 ${this.#axis.seconds} 1`);
    this.#grid.replaceChildren(...this.#axis.marks().map((x) => shape("line", "", {x1: x, x2: x, y1: 0, y2: 1})));
  }
}

function shape(name, className, attributes = {}) {
  const made = document.createElementNS(SVG, name);
  if (className) made.setAttribute("class", className);
  for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
  return made;
}
