// The URL of a lane -> each arrival at once, and at the end whether its client knows that the response is complete.

import {Elements, Lines, Messages} from "./items.js";

/**
 * The lanes. `read(url, {signal, arrived})` calls `arrived(bytes, text, kind)` for each arrival. The kind is "item", or
 * "end" for the event of that type, or "error" for the body of an error response. It resolves to
 * {whole, how}: whether its client takes the response for complete, and what shows that. `items()` makes a counter of
 * items. `query` has the parameters that give every lane the same items at the same time. `python` has the arguments of
 * open_stream.
 */
export const LANES = [
  {
    name: "non-chunked",
    title: "Buffered response",
    what: "Not streamed, for comparison. The server makes all items, then sends them.",
    query: {names: 1},
    items: () => new Lines(),
    streamed: false,
    read: readBody,
  },
  {
    name: "chunked",
    title: "Chunked text",
    what: "One line of text per item. Each line is an HTTP chunk.",
    query: {names: 1},
    items: () => new Lines(),
    read: readBody,
    python: {},
  },
  {
    name: "json",
    title: "JSON array",
    what: "One JSON array. Each later chunk begins with a comma, so that the array stays valid.",
    items: () => new Elements(),
    read: (url, reader) => readBody(url, reader, judgeJson),
    python: {},
  },
  {
    name: "nested",
    title: "Nested JSON",
    what: "One JSON document. The lists inside it are sent while they are made.",
    query: {parts: 0},
    items: () => new Elements("users"),
    tree: true,
    read: (url, reader) => readBody(url, reader, judgeJson),
    python: {path: '"users.item"'},
  },
  {
    name: "sse",
    title: "Server-sent events",
    what: "One event per item for EventSource, then an event of type “end”.",
    items: () => new Messages(),
    read: readEvents,
    python: {type: "ServerSentEvent"},
  },
  {
    name: "ws",
    title: "WebSocket",
    what: "One message per item. The close frame says how many there were.",
    query: {names: 1},
    items: () => new Messages(),
    websocket: true,
    read: readMessages,
    python: {format: '"text"'},
  },
];

/** The number of items after which the producer fails, if it is set to fail. */
export function failAfter({items}) {
  return Math.floor(items / 2);
}

/** The URL of a lane's response, or of its bytes in the folder "wire/". */
export function urlOf(lane, settings, folder = "") {
  const query = new URLSearchParams({items: settings.items, interval: settings.interval, ...lane.query});
  if (settings.size) query.set("size", settings.size);
  if (settings.fail) query.set("fail", failAfter(settings));
  return new URL(`${folder}${lane.name}?${query}`, document.baseURI).href;
}

/** Use fetch() and read chunk by chunk. `judge(text)` says what the text itself proves: {whole, how}, or null. */
async function readBody(url, {signal, arrived}, judge = () => null) {
  const decoder = new TextDecoder();
  let response = null;
  let text = "";
  let received = 0;
  try {
    response = await fetch(url, {signal, cache: "no-store"});
    const reader = response.body.getReader();
    for (;;) {
      const {done, value} = await reader.read();
      if (done) break;
      const chunk = decoder.decode(value, {stream: true});
      text += chunk;
      received += value.length;
      arrived(value.length, chunk, response.ok ? "item" : "error");
    }
  } catch (error) {
    if (!response) return {whole: false, how: `fetch() failed with “${error}”.`};
    const hasLength = response.headers.has("content-length");
    const missing = hasLength ? "The body is shorter than its Content-Length" : "The last chunk is missing";
    return {whole: false, how: [`${missing}: read() failed with “${error}”.`, judge(text)?.how].join(" ").trim()};
  }
  if (!response.ok) {
    return {whole: false, how: `The status is ${response.status}, not 200: “${reasonOf(text)}”.`};
  }
  const framed = framingOf(response.headers, received);
  const judged = judge(text);
  return {whole: (judged ?? framed).whole, how: judged ? `${framed.how} ${judged.how}` : framed.how};
}

/**
 * What HTTP proves about a body of `received` bytes that has ended without an error. Browsers report no error if the
 * connection was closed inside the head.
 */
function framingOf(headers, received) {
  const length = headers.get("content-length");
  if (length === null) {
    return headers.get("transfer-encoding") === "chunked"
      ? {whole: true, how: "Proven by HTTP: the last chunk arrived."}
      : {whole: false, how: "The connection was closed, and no Content-Length proves that this was the end."};
  }
  if (received < Number(length) && !headers.has("content-encoding")) {
    return {whole: false, how: `${count(received, "byte")} of ${Number(length).toLocaleString("en")} arrived.`};
  }
  return {whole: true, how: `Proven by HTTP: all ${count(Number(length), "byte")} of the Content-Length arrived.`};
}

function judgeJson(text) {
  try {
    JSON.parse(text);
    return {whole: true, how: "The JSON is complete, too."};
  } catch {
    return {whole: false, how: "The JSON is not complete."};
  }
}

/** The reason in problem details (RFC 9457), or the text itself. */
function reasonOf(text) {
  try {
    const problem = JSON.parse(text);
    return problem.detail ?? problem.title;
  } catch {
    return text;
  }
}

/** Use EventSource. It reports every end as an error and connects again, so the last event needs its own type. */
function readEvents(url, {signal, arrived}) {
  const source = new EventSource(url);
  let items = 0;
  return new Promise((resolve) => {
    const end = (outcome) => {
      source.close();
      resolve(outcome);
    };
    signal.addEventListener("abort", () => end(null), {once: true});
    source.onmessage = ({data}) => {
      items += 1;
      arrived(lengthOf(data), data, "item");
    };
    source.addEventListener("end", ({data}) => {
      arrived(lengthOf(data), `end: ${data}`, "end");
      const sent = JSON.parse(data).items;
      const how = sent === items
        ? `Proven by the event “end”, which counts ${count(sent, "item")}.`
        : `The event “end” counts ${count(sent, "item")}, but ${items} arrived.`;
      end({whole: sent === items, how});
    });
    source.onerror = () => {
      const refused = source.readyState === EventSource.CLOSED && items === 0;
      const how = refused
        ? "EventSource reported an error before the first event. It does not give the status."
        : "The last event, “end”, is missing. Without it, EventSource reports every end as an error.";
      end({whole: false, how});
    };
  });
}

/** Use WebSocket. The close frame has a code, and a reason that counts the items. */
function readMessages(url, {signal, arrived}) {
  const socket = new WebSocket(url.replace(/^http/, "ws"));
  let messages = 0;
  return new Promise((resolve) => {
    signal.addEventListener("abort", () => { closeQuietly(socket); resolve(null); }, {once: true});
    socket.onmessage = ({data}) => {
      messages += 1;
      arrived(lengthOf(data), data, "item");
    };
    socket.onclose = ({code, reason}) => {
      const sent = code === 1000 ? /^complete; items=(\d+)$/.exec(reason)?.[1] : undefined;
      const whole = Number(sent) === messages;
      const close = `close code ${code}${reason ? ` with the reason “${reason}”` : " without a reason"}`;
      resolve({whole, how: whole ? `Proven by ${close}.` : `The connection ended with ${close}.`});
    };
  });
}

/** Close a socket. One that is still connecting is closed once it is open, because browsers would log an error. */
export function closeQuietly(socket) {
  socket.onmessage = socket.onclose = null;
  if (socket.readyState === WebSocket.CONNECTING) socket.onopen = () => socket.close();
  else socket.close();
}

export function count(number, noun) {
  return `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
}

function lengthOf(text) {
  return new TextEncoder().encode(text).length;
}
