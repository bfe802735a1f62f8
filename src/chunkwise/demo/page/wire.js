// The bytes of a response, as characters U+0000 to U+00FF, however they are split -> parts with their meaning.
//
// A part is {kind, text, row: whether it starts a row, note}. Kinds: head, size, crlf, data, last (the terminating 0),
// frame and close (of a WebSocket), missing (expected but not received).

import {count} from "./lanes.js";

const OPCODES = {0: "continuation", 1: "text", 2: "binary", 8: "close", 9: "ping", 10: "pong"};

/** Reads a response of HTTP/1.1: its head, then a chunked body (RFC 9112 §7.1), a body with a length, or frames. */
export class WireReader {
  isWhole = false;
  #rest = "";
  #read = this.#readHead;
  #left = 0;
  #expected = "the end of the head";

  /** Return the parts that these bytes complete. Data is returned at once, even if its chunk is not complete. */
  feed(bytes) {
    this.#rest += bytes;
    const parts = [];
    while (this.#rest && this.#read.call(this, parts)) continue;
    return parts;
  }

  /** End the response: return the bytes that are left, and a part that says what is missing. */
  finish(how) {
    const parts = this.#rest ? [{kind: "data", text: this.#rest, row: true}] : [];
    const end = how === "reset" ? "the connection was reset" : "the connection was closed";
    parts.push(this.isWhole
      ? {kind: "missing", row: true, text: "", note: end}
      : {kind: "missing", row: true, text: `${this.#expected} is missing`, note: end});
    return parts;
  }

  #take(length) {
    const taken = this.#rest.slice(0, length);
    this.#rest = this.#rest.slice(length);
    return taken;
  }

  /** A line without its end; null if it is not complete yet. */
  #takeLine() {
    const length = this.#rest.indexOf("\r\n");
    return length < 0 ? null : this.#take(length + 2).slice(0, -2);
  }

  #readHead(parts) {
    const length = this.#rest.indexOf("\r\n\r\n");
    if (length < 0) return false;
    const lines = this.#take(length + 4).slice(0, -4).split("\r\n");
    for (const line of [...lines, ""]) parts.push({kind: "head", text: line, row: true}, CRLF);
    const fields = new Map(lines.slice(1).map((line) => line.toLowerCase().split(/:\s*/, 2)));
    if (lines[0].includes(" 101 ")) {
      this.#expect(this.#readFrame, "the close frame");
    } else if (fields.get("transfer-encoding") === "chunked") {
      this.#expect(this.#readSize, "the last chunk (0 CRLF CRLF)");
    } else {
      this.#left = Number(fields.get("content-length") ?? Infinity);
      this.isWhole = this.#left === 0;
      parts.push({kind: "data", text: "", row: true, note: `= ${count(this.#left, "byte")}: the Content-Length`});
      this.#expect(this.#readBody, "the rest of its Content-Length");
    }
    return true;
  }

  #expect(read, expected = this.#expected) {
    this.#read = read;
    this.#expected = expected;
  }

  #readBody(parts) {
    parts.push({kind: "data", text: this.#takeData()});
    this.isWhole = this.#left === 0;
    return false;
  }

  #takeData() {
    const data = this.#take(Math.min(this.#left, this.#rest.length));
    this.#left -= data.length;
    return data;
  }

  #readSize(parts) {
    const line = this.#takeLine();
    if (line === null) return false;
    this.#left = parseInt(line, 16);
    if (this.#left === 0) {
      parts.push({kind: "last", text: line, row: true, note: "the last chunk"}, CRLF);
      this.#expect(this.#readTrailer);
    } else {
      const note = `= ${count(this.#left, "byte")}`;
      parts.push({kind: "size", text: line, row: true, note}, CRLF, {kind: "data", text: "", row: true});
      this.#expect(this.#readChunk);
    }
    return true;
  }

  #readChunk(parts) {
    if (this.#left > 0) {
      parts.push({kind: "data", text: this.#takeData()});
      return true;
    }
    if (this.#takeLine() === null) return false;
    parts.push(CRLF);
    this.#expect(this.#readSize);
    return true;
  }

  #readTrailer(parts) {
    if (this.#takeLine() === null) return false;
    parts.push(CRLF);
    this.isWhole = true;
    this.#expect(() => false);
    return true;
  }

  /** RFC 6455 §5.2: a server's frames have no mask. */
  #readFrame(parts) {
    const code = (at) => this.#rest.charCodeAt(at);
    const short = code(1) & 0x7f;
    const headLength = 2 + ({126: 2, 127: 8}[short] ?? 0);
    if (this.#rest.length < headLength) return false;
    let length = short;
    if (headLength > 2) {
      length = 0;
      for (let at = 2; at < headLength; at += 1) length = length * 256 + code(at);
    }
    const opcode = code(0) & 0x0f;
    // A close frame is shown when it is complete.
    if (opcode === 8 && this.#rest.length < headLength + length) return false;
    const head = hex(this.#take(headLength));
    if (opcode === 8) {
      const close = this.#take(length);
      const number = close.charCodeAt(0) * 256 + close.charCodeAt(1);
      parts.push({kind: "close", text: head, row: true, note: `close frame of ${count(length, "byte")}`});
      if (length >= 2) {
        parts.push({kind: "close", text: hex(close.slice(0, 2)), row: true, note: `code ${number}`});
        parts.push({kind: "data", text: close.slice(2), row: true, note: "reason"});
      }
      this.isWhole = true;
      this.#expect(() => false);
    } else {
      this.#left = length;
      const note = `${OPCODES[opcode] ?? "?"} frame of ${count(length, "byte")}`;
      parts.push({kind: "frame", text: head, row: true, note});
      parts.push({kind: "data", text: "", row: true});
      this.#expect(this.#readPayload);
    }
    return true;
  }

  #readPayload(parts) {
    parts.push({kind: "data", text: this.#takeData()});
    if (this.#left === 0) this.#expect(this.#readFrame);
    return true;
  }
}

const CRLF = {kind: "crlf", text: "\r\n"};

export function hex(bytes) {
  return Array.from(bytes, (byte) => byte.charCodeAt(0).toString(16).padStart(2, "0")).join(" ");
}
