// JSON text in chunks -> a tree of the text so far, and that tree as elements of the page. It accepts invalid JSON.

import {element} from "./element.js";

const MAX_CHILDREN = 8; // only the last members of each object and array are shown
const MAX_CHARACTERS = 40; // shown of each text

/**
 * Reads JSON in chunks. Each character is read once, however the text is split.
 *
 * `root` is the tree, or null before the first character. A node is {key, kind, raw, children, open, chunk}. Its kind
 * is "object", "array", "text" or "scalar". `raw` is the JSON of a text or scalar so far. A node is open until its end
 * is read. `chunk` is the number of the chunk in which it starts.
 */
export class PartialJson {
  root = null;
  chunk = 0;
  #stack = []; // the objects and arrays that are open
  #leaf = null; // the text or scalar that is open
  #key = null; // the name of an object's next value; while it is being read, it is #leaf
  #escaped = false;

  feed(text) {
    this.chunk += 1;
    let at = 0;
    while (at < text.length) {
      if (this.#leaf?.kind === "text") at = this.#readText(text, at);
      else if (this.#leaf) at = this.#readScalar(text, at);
      else at = this.#readToken(text, at);
    }
  }

  #readText(text, from) {
    let at = from;
    while (at < text.length) {
      const next = this.#escaped ? at : search(/["\\]/g, text, at);
      if (next === text.length) break;
      at = next + 1;
      if (!this.#escaped && text[next] === '"') {
        this.#leaf.raw += text.slice(from, next);
        this.#closeLeaf();
        return at;
      }
      this.#escaped = !this.#escaped; // this is a backslash, or the character after a backslash
    }
    this.#leaf.raw += text.slice(from);
    return text.length;
  }

  #readScalar(text, from) {
    const end = search(/[\s,\]}]/g, text, from);
    this.#leaf.raw += text.slice(from, end);
    if (end < text.length) this.#closeLeaf();
    return end;
  }

  #readToken(text, at) {
    const character = text[at];
    const parent = this.#stack.at(-1);
    if (character === "{" || character === "[") {
      this.#stack.push(this.#add(character === "{" ? "object" : "array"));
    } else if (character === "}" || character === "]") {
      if (parent) this.#stack.pop().open = false;
    } else if (character === '"') {
      const isName = parent?.kind === "object" && this.#key === null;
      this.#leaf = isName ? this.#node("text", {isName}) : this.#add("text");
    } else if (/[-\w]/.test(character)) {
      this.#leaf = this.#add("scalar");
      return at; // the character belongs to the scalar
    }
    return at + 1;
  }

  #node(kind, more) {
    return {key: null, kind, raw: "", children: [], open: true, chunk: this.chunk, ...more};
  }

  #add(kind) {
    const node = this.#node(kind, {key: this.#key});
    this.#key = null;
    const parent = this.#stack.at(-1);
    if (parent) parent.children.push(node);
    else this.root ??= node;
    return node;
  }

  #closeLeaf() {
    this.#leaf.open = false;
    if (this.#leaf.isName) this.#key = textOf(this.#leaf.raw);
    this.#leaf = null;
  }
}

/** The next match of a pattern, or the length of the text. */
function search(pattern, text, from) {
  pattern.lastIndex = from;
  return pattern.exec(text)?.index ?? text.length;
}

/** The value of a JSON string, or its JSON if that is not complete. */
export function textOf(raw) {
  try {
    return JSON.parse(`"${raw}"`);
  } catch {
    return raw;
  }
}

/** Make elements of a tree. Nodes that start in the last chunk are marked as new. */
export function treeElement(json) {
  const list = element("ul", "tree");
  if (json.root) list.append(branch(json.root, json.chunk, true));
  return list;
}

function branch(node, chunk, isRoot = false) {
  const item = element("li", node.chunk === chunk ? "new" : "");
  if (node.key !== null) item.append(element("span", "key", node.key), " ");
  if (node.kind === "text" || node.kind === "scalar") {
    item.append(leafElement(node));
    return item;
  }
  const [opening, closing] = node.kind === "object" ? "{}" : "[]";
  item.append(element("span", "bracket", opening));
  const list = element("ul", !isRoot && isFlat(node) ? "flat" : "");
  const hidden = node.children.length - MAX_CHILDREN;
  if (hidden > 0) list.append(element("li", "more", `… ${hidden.toLocaleString("en")} before these`));
  list.append(...node.children.slice(-MAX_CHILDREN).map((child) => branch(child, chunk)));
  item.append(list, node.open ? element("span", "open", "…") : element("span", "bracket", closing));
  return item;
}

function leafElement(node) {
  const text = node.kind === "text" ? `"${shortened(textOf(node.raw))}${node.open ? "" : '"'}` : node.raw;
  const leaf = element("span", node.kind, text);
  if (node.open) leaf.append(element("span", "open", "…"));
  return leaf;
}

/** Whether a node fits on one line: it holds only texts, scalars, and arrays of these. */
function isFlat(node) {
  return node.children.every((child) => child.kind !== "object" && !child.children.some(isBranch));
}

function isBranch(node) {
  return node.kind === "object" || node.kind === "array";
}

function shortened(text) {
  const rest = text.length - MAX_CHARACTERS;
  return rest > 0 ? `${text.slice(0, MAX_CHARACTERS)}… (${rest.toLocaleString("en")} more)` : text;
}
