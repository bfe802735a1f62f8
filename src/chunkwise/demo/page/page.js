// The settings of a run -> all lanes at once, on one clock and one time axis.

import {Axis} from "./axis.js";
import {CodeView} from "./code.js";
import {LANES, failAfter, urlOf} from "./lanes.js";
import {paceOf, summaryOf, switchLabel} from "./sentences.js";
import {LaneView} from "./view.js";
import {WireView} from "./wireview.js";

const MIN_AXIS_SECONDS = 0.5;
const MARGIN_SECONDS = 0.2; // so that a run that is a little late does not change the axis
const WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"];

const form = document.querySelector("#result form");
const [runButton, stopButton, nextButton] = ["run", "stop", "next"].map((id) => document.getElementById(id));
const status = document.querySelector("#status");
const dialog = document.querySelector("dialog");
const lessMotion = matchMedia("(prefers-reduced-motion: reduce)");
const axis = new Axis(document.querySelector("#ruler"));
axis.reset(secondsOf(settings()));

const lanes = LANES.map((lane) => {
  const view = new LaneView(lane, axis);
  document.querySelector("#rows").append(view.row);
  document.querySelector("#lanes").append(view.element);
  const details = view.element.querySelector("details");
  const summary = details.querySelector("summary");
  summary.id = `more-${lane.name}`;
  summary.setAttribute("aria-labelledby", `${summary.id} title-${lane.name}`);
  return {lane, view, code: new CodeView(lane, view.element, dialog), wire: new WireView(lane, details)};
});

let run = null; // {settings, started, aborts}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  start();
});
form.addEventListener("input", ({target}) => {
  if (!form.checkValidity()) return;
  showSettings();
  if (target.name === "fail") start();
});
// If a field is not valid, the settings are opened, so that the browser can point at the field.
form.addEventListener("invalid", () => { document.querySelector("#settings").open = true; }, {capture: true});
// The second click of a double click on Run is not meant for Stop, which takes the place of Run.
stopButton.addEventListener("click", ({detail}) => { if (detail <= 1) stop(); });
nextButton.addEventListener("click", () => {
  form.elements.fail.checked = !run.settings.fail;
  showSettings();
  form.requestSubmit();
});
showSettings();
startWhenVisible();

function settings() {
  const {items, interval, size, fail} = form.elements;
  return {items: items.valueAsNumber, interval: interval.valueAsNumber, size: size.valueAsNumber, fail: fail.checked};
}

/** The seconds that the axis needs: the same for a complete run, a failed one and one that is stopped. */
function secondsOf({items, interval}) {
  return Math.max(MIN_AXIS_SECONDS, (items - 1) * interval + MARGIN_SECONDS || 0);
}

function showSettings() {
  document.querySelector("#fail-after").textContent = switchLabel(settings());
  for (const {code} of lanes) code.show(settings());
}

/** Run once. A page in the background, or one that is only prerendered, waits until it is visible. */
function startWhenVisible() {
  if (run) return;
  if (document.visibilityState === "visible") start();
  else document.addEventListener("visibilitychange", startWhenVisible, {once: true});
}

/** Start a run. The one before it is stopped, and nothing of it is shown any more. */
function start() {
  run?.aborts.abort();
  run = {settings: settings(), started: performance.now(), aborts: new AbortController()};
  const {items} = run.settings;
  document.querySelector("#count").textContent = `${WORDS[items] ?? items} item${items === 1 ? "" : "s"}`;
  document.querySelector("#pace").textContent = paceOf(run.settings);
  axis.reset(secondsOf(run.settings));
  showButtons(true);
  status.textContent = "Running …";
  for (const {lane, view} of lanes) {
    view.reset(items);
    readLane(lane, view, run);
  }
  // After the lanes: browsers open one WebSocket to a host at a time, and the wires would delay the WebSocket lane.
  for (const {wire} of lanes) wire.begin(run.settings);
  requestAnimationFrame(() => draw(run));
}

async function readLane(lane, view, mine) {
  const {signal} = mine.aborts;
  const arrived = (...arrival) => {
    if (!signal.aborted) view.arrived(secondsSince(mine), ...arrival);
  };
  const outcome = await lane.read(urlOf(lane, mine.settings), {signal, arrived});
  if (signal.aborted) return;
  view.ended(secondsSince(mine), stateOf(outcome, mine.settings, view), outcome.how);
  if (!lanes.some((each) => each.view.isRunning)) finish(mine);
}

function stateOf({whole}, {fail}, view) {
  if (fail) return whole ? "undetected" : "detected";
  if (whole && !view.hasAll) return "undetected";
  return whole ? "whole" : "wrong";
}

function stop() {
  run.aborts.abort();
  const how = "You disconnected. The server sees that and stops making items.";
  for (const {view, wire} of lanes) {
    wire.stop();
    if (view.isRunning) view.ended(secondsSince(run), "stopped", how);
  }
  status.textContent = "Stopped.";
  showButtons(false);
}

function finish(mine) {
  fitAxis(secondsSince(mine));
  status.textContent = summaryOf(mine.settings, lanes.map(({view}) => view));
  showButtons(false, mine.settings.fail ? "Run without failure" : "Now make it fail");
}

/** Show only the buttons that do something now. The focus moves on from a button that is hidden. */
function showButtons(isRunning, next = "") {
  const hadFocus = form.querySelector(".buttons").contains(document.activeElement);
  [runButton.hidden, stopButton.hidden, nextButton.hidden] = [isRunning, !isRunning, !next];
  runButton.textContent = "Run again";
  nextButton.textContent = next;
  if (hadFocus) (isRunning ? stopButton : runButton).focus();
}

function draw(mine) {
  if (mine !== run) return;
  const now = secondsSince(mine);
  if (lanes.some(({view}) => view.isRunning)) {
    fitAxis(now);
    requestAnimationFrame(() => draw(mine));
  }
  for (const {view} of lanes) view.draw(now, !lessMotion.matches);
}

function fitAxis(seconds) {
  if (axis.fit(seconds)) for (const {view} of lanes) view.rescale();
}

function secondsSince({started}) {
  return (performance.now() - started) / 1000;
}
