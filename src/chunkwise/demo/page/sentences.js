// The settings of a run and the views of its lanes -> what the page says about them.

import {count, failAfter} from "./lanes.js";

/** How fast the server makes the items. */
export function paceOf({interval}) {
  return interval > 0 ? `The server makes one item every ${interval} s.` : "The server makes the items without a pause.";
}

export function switchLabel(settings) {
  const after = failAfter(settings);
  return after ? `Fail after ${count(after, "item")}` : "Fail before the first item";
}

/** The result of a run in a sentence or two. */
export function summaryOf(settings, views) {
  const inState = (state) => views.filter((view) => view.state === state).length;
  if (settings.fail) {
    const after = failAfter(settings);
    const failed = after ? `The server failed after ${count(after, "item")}.` : "The server failed before the first item.";
    return `${failed} ${ofAll(inState("detected"), views.length, "clients")} know.`;
  }
  if (inState("whole") < views.length) return `${ofAll(inState("whole"), views.length, "responses")} are complete.`;
  const [buffered, ...streamed] = views.map((view) => view.first);
  const first = `First item after ${range(streamed)} when streamed, after ${range([buffered])} when buffered.`;
  return isSame(views.map((view) => view.total)) ? `${first} The total time is the same.` : first;
}

function range(seconds) {
  const [least, most] = [Math.min(...seconds).toFixed(2), Math.max(...seconds).toFixed(2)];
  return least === most ? `${most} s` : `${least} to ${most} s`;
}

/** Whether times differ by no more than the noise of a run: 0.1 s, or a twentieth of the longest. */
function isSame(seconds) {
  const most = Math.max(...seconds);
  return most - Math.min(...seconds) <= Math.max(0.1, most / 20);
}

function ofAll(number, all, nouns) {
  return number === all ? `All ${all} ${nouns}` : `${number} of ${all} ${nouns}`;
}
