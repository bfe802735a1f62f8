// The text of a response, chunk by chunk -> the number of complete items in it.

import {PartialJson} from "./tree.js";

/** Lines of text: an item is complete at its line end. */
export class Lines {
  count = 0;

  add(text) {
    this.count += text.split("\n").length - 1;
  }
}

/** Elements of the array in a JSON text: the text itself, or the value of one key of its object. */
export class Elements {
  json = new PartialJson();
  #key;

  constructor(key = null) {
    this.#key = key;
  }

  add(text) {
    this.json.feed(text);
  }

  get count() {
    const {root} = this.json;
    const array = this.#key === null ? root : root?.children.find(({key}) => key === this.#key);
    return array?.kind === "array" ? array.children.filter(({open}) => !open).length : 0;
  }
}

/** Messages or events: each is an item, unless its client says that it is not. */
export class Messages {
  count = 0;

  add(text, isItem) {
    if (isItem) this.count += 1;
  }
}
