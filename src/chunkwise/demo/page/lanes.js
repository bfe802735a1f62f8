// A lane's URL -> its arrivals, each at once, and at last whether its client could see how it ended, and from what.
// It says of an end only what has really happened in this browser.

/**
 * The lanes. `read(url, {signal, arrived})` reports each arrival by `arrived(bytes, text)`, and resolves to {whole, how}:
 * what its client takes the stream for, and by what it knows. `fails(items)` is after how many beats of its producer
 * about half is made; by default each item is a beat. `python` has the arguments of open_stream.
 */
export const LANES = [
  {
    name: "non-chunked",
    title: "Buffered answer",
    what: "Not streamed, to compare: all is made first, then sent at once.",
    streamed: false,
    read: readBody,
  },
  {
    name: "chunked",
    title: "Chunked text",
    what: "Each line leaves as it is made, as a chunk of HTTP.",
    read: readBody,
    python: {},
  },
  {
    name: "json",
    title: "JSON array",
    what: "One array, valid as a whole, that grows by an object.",
    read: (url, reader) => readBody(url, reader, judgeJson),
    python: {},
  },
  {
    name: "nested",
    title: "Nested JSON",
    what: "One document with live parts at any depth, each filled in as it is made.",
    tree: true,
    read: (url, reader) => readBody(url, reader, judgeJson),
    fails: (items) => items + 1, // of 2 * items + 1 beats: one for each user, one for each role
    python: {path: '"users.item"'},
  },
  {
    name: "sse",
    title: "Server-sent events",
    what: "What EventSource reads: events, with one of type “end” behind them.",
    read: readEvents,
    python: {type: "ServerSentEvent"},
  },
  {
    name: "ws",
    title: "WebSocket",
    what: "A message for each item; the close says whether they are all.",
    websocket: true,
    read: readMessages,
    python: {format: '"text"'},
  },
];

/** Where a lane asks, given what the controls say. */
export function urlOf(lane, settings, folder = "") {
  const query = new URLSearchParams({items: settings.items, interval: settings.interval, size: settings.size});
  if (settings.fail) query.set("fail", (lane.fails ?? half)(settings.items));
  return new URL(`${folder}${lane.name}?${query}`, document.baseURI).href;
}

function half(items) {
  return Math.floor(items / 2);
}

/** fetch, read chunk by chunk. `judge(text)` gives what the text itself says of its end: {whole, how}, or null. */
async function readBody(url, {signal, arrived}, judge = () => null) {
  const decoder = new TextDecoder();
  let response = null;
  let text = "";
  try {
    response = await fetch(url, {signal, cache: "no-store"});
    const reader = response.body.getReader();
    for (;;) {
      const {done, value} = await reader.read();
      if (done) break;
      const piece = decoder.decode(value, {stream: true});
      text += piece;
      arrived(value.length, piece);
    }
  } catch (error) {
    if (!response) return {whole: false, how: `fetch() rejected with “${error}”.`};
    const hasLength = response.headers.has("content-length");
    const missing = hasLength ? "it is shorter than its Content-Length" : "the last chunk never came";
    return {whole: false, how: [`read() rejected with “${error}”: ${missing}.`, judge(text)?.how].join(" ").trim()};
  }
  if (!response.ok) {
    return {whole: false, how: `Status ${response.status} instead of an answer: “${reasonOf(text)}”.`};
  }
  const length = response.headers.get("content-length");
  const framing = length === null
    ? "read() said “done”: the last chunk came."
    : `All ${count(Number(length), "byte")} of its Content-Length came.`;
  const judged = judge(text);
  return {whole: judged?.whole ?? true, how: judged ? `${framing} ${judged.how}` : framing};
}

function judgeJson(text) {
  try {
    const value = JSON.parse(text);
    const what = Array.isArray(value) ? `an array of ${count(value.length, "item")}` : "an object";
    return {whole: true, how: `And the text is JSON: ${what}.`};
  } catch (error) {
    return {whole: false, how: `And the text is no JSON: “${error.message}”.`};
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

/** EventSource. It takes every end for a break and connects again, so the last event must be one of our own. */
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
      arrived(lengthOf(data), data);
    };
    source.addEventListener("end", ({data}) => {
      arrived(lengthOf(data), `end: ${data}`);
      const said = JSON.parse(data).items;
      const how = `The event “end” came. It counts ${count(said, "item")}, and ${items} came.`;
      end({whole: said === items, how});
    });
    source.onerror = () => {
      const refused = source.readyState === EventSource.CLOSED && items === 0;
      const how = refused
        ? "EventSource reported an error before the first event: the answer was refused. It does not tell the status."
        : `EventSource reported an error behind ${count(items, "event")}, and no event “end” had come. `
          + "It reports the same at every end, good or bad: that last event is all that tells them apart.";
      end({whole: false, how});
    };
  });
}

/** WebSocket. Its close has a code, and a reason that counts the items. */
function readMessages(url, {signal, arrived}) {
  const socket = new WebSocket(url.replace(/^http/, "ws"));
  let messages = 0;
  return new Promise((resolve) => {
    signal.addEventListener("abort", () => { closeQuietly(socket); resolve(null); }, {once: true});
    socket.onmessage = ({data}) => {
      messages += 1;
      arrived(lengthOf(data), data);
    };
    socket.onclose = ({code, reason}) => {
      const said = code === 1000 ? /^complete; items=(\d+)$/.exec(reason)?.[1] : undefined;
      const close = `Close ${code}${reason ? ` with the reason “${reason}”` : ", without a reason"}`;
      resolve({whole: Number(said) === messages, how: `${close}, behind ${count(messages, "message")}.`});
    };
  });
}

/** Close a socket also while it connects, which browsers would complain of: then as soon as it is open. */
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
