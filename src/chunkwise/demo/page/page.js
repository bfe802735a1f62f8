// The controls -> runs of all lanes at once, on one clock and one axis.

import {Axis} from "./axis.js";
import {asCurl, asPython, copy} from "./copy.js";
import {LANES, count, urlOf} from "./lanes.js";
import {LaneView} from "./view.js";
import {WireView} from "./wireview.js";

const MIN_AXIS_SECONDS = 0.5;

const form = document.querySelector("form");
const stopButton = document.querySelector("#stop");
const status = document.querySelector("#status");
const copied = document.querySelector("#copied");
const dialog = document.querySelector("dialog");
const axis = new Axis(document.querySelector("#ruler"));
axis.reset(secondsOf(settings()));

const lanes = LANES.map((lane) => {
  const view = new LaneView(lane, axis);
  document.querySelector("#rows").append(view.row);
  document.querySelector("#lanes").append(view.element);
  for (const button of view.element.querySelectorAll("button[data-copy]")) {
    button.setAttribute("aria-label", `${button.textContent}: ${lane.title}`);
    button.addEventListener("click", () => copyLane(lane, button.dataset.copy));
  }
  const details = view.part("wire");
  details.querySelector("summary").setAttribute("aria-label", `The wire: ${lane.title}`);
  return {lane, view, wire: new WireView(lane, details)};
});

let run = null; // {settings, started, aborts}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  start();
});
stopButton.addEventListener("click", () => stop());

/** What the controls say. */
function settings() {
  const {items, interval, size, fail} = form.elements;
  return {items: items.valueAsNumber, interval: interval.valueAsNumber, size: size.valueAsNumber, fail: fail.checked};
}

/** About how long the streams of one item each beat take. */
function secondsOf({items, interval, fail}) {
  return Math.max(MIN_AXIS_SECONDS, ((fail ? items / 2 : items) * interval) || 0);
}

/** Begin a run. One that goes on is over: nothing of it is shown any more. */
function start() {
  run?.aborts.abort();
  run = {settings: settings(), started: performance.now(), aborts: new AbortController()};
  axis.reset(secondsOf(run.settings));
  stopButton.disabled = false;
  status.textContent = "Running …";
  for (const {lane, view} of lanes) {
    view.reset();
    readLane(lane, view, run);
  }
  // Behind the lanes: browsers open one WebSocket to a host at a time, and the wires would hold up the lane that is one.
  for (const {wire} of lanes) wire.begin(run.settings);
  requestAnimationFrame(() => draw(run));
}

async function readLane(lane, view, mine) {
  const {signal} = mine.aborts;
  const arrived = (bytes, text) => {
    if (!signal.aborted) view.arrived(secondsSince(mine), bytes, text);
  };
  const outcome = await lane.read(urlOf(lane, mine.settings), {signal, arrived});
  if (signal.aborted) return;
  view.ended(secondsSince(mine), stateOf(outcome, mine.settings), outcome.how);
  if (!lanes.some((each) => each.view.isRunning)) finish(mine);
}

function stateOf({whole}, {fail}) {
  if (fail) return whole ? "untold" : "told";
  return whole ? "whole" : "wrong";
}

function stop() {
  run.aborts.abort();
  const how = "You left. The server sees that, and stops making items.";
  for (const {view, wire} of lanes) {
    wire.stop();
    if (view.isRunning) view.ended(secondsSince(run), "stopped", how);
  }
  stopButton.disabled = true;
  status.textContent = "Stopped.";
  document.querySelector("#run").focus();
}

function finish(mine) {
  stopButton.disabled = true;
  fitAxis(secondsSince(mine));
  status.textContent = summaryOf(mine.settings);
}

/** What a person should see first. */
function summaryOf({fail}) {
  const views = lanes.map(({view}) => view);
  const inState = (state) => views.filter((view) => view.state === state).length;
  if (fail) return `The producer failed half-way: ${inState("told")} of ${count(views.length, "client")} could tell.`;
  const [buffered, ...streamed] = views.map((view) => view.first);
  const all = `${inState("whole")} of ${views.length} came whole.`;
  if (buffered === null || streamed.includes(null)) return all;
  const span = `${Math.min(...streamed).toFixed(2)} to ${Math.max(...streamed).toFixed(2)} s`;
  return `Streamed, the first byte was there after ${span}; buffered, after ${buffered.toFixed(2)} s. ${all}`;
}

function draw(mine) {
  if (mine !== run) return;
  const now = secondsSince(mine);
  if (lanes.some(({view}) => view.isRunning)) {
    fitAxis(now);
    requestAnimationFrame(() => draw(mine));
  }
  for (const {view} of lanes) view.draw(now);
}

function fitAxis(seconds) {
  if (axis.fit(seconds)) for (const {view} of lanes) view.rescale();
}

function secondsSince({started}) {
  return (performance.now() - started) / 1000;
}

async function copyLane(lane, what) {
  if (!form.reportValidity()) return;
  const text = {curl: asCurl, python: asPython}[what](lane, urlOf(lane, settings()));
  const isCopied = await copy(text, dialog);
  const name = `${lane.title} as ${what === "curl" ? "curl" : "Python"}`;
  copied.textContent = isCopied ? `Copied: ${name}.` : `${name} is selected: copy it with Ctrl+C.`;
}
