// A lane and the settings of a run -> the code of its server and of its clients, in the lane's card.

import {asCurl, asPython, copy} from "./copy.js";
import {urlOf} from "./lanes.js";

const NAMES = {server: "the server’s code", python: "the client’s code", curl: "the command"};

/** The code in a card. The server's code is loaded when the card is first opened. */
export class CodeView {
  #lane;
  #card;
  #isLoaded = false;

  constructor(lane, card, dialog) {
    this.#lane = lane;
    this.#card = card;
    const details = card.querySelector("details");
    details.addEventListener("toggle", () => {
      details.querySelector("summary").textContent = `${details.open ? "Hide" : "Show"} code and bytes`;
      if (!details.open) return;
      this.#load();
      card.scrollIntoView({block: "nearest"}); // an open card takes a row of its own
    });
    for (const button of card.querySelectorAll("button[data-copy]")) {
      button.setAttribute("aria-label", `Copy ${NAMES[button.dataset.copy]}: ${lane.title}`);
      button.addEventListener("click", () => this.#copy(button, dialog));
    }
  }

  /** Show the clients of the response to these settings. */
  show(settings) {
    const url = urlOf(this.#lane, settings);
    this.#text("python").textContent = asPython(this.#lane, url);
    this.#text("curl").textContent = asCurl(this.#lane, url);
    for (const copied of this.#card.querySelectorAll(".copied")) copied.textContent = "";
  }

  #text(name) {
    return this.#card.querySelector(`[data-text="${name}"]`);
  }

  async #load() {
    if (this.#isLoaded) return;
    this.#isLoaded = true;
    const text = this.#text("server");
    text.textContent = "Loading …";
    try {
      const response = await fetch(`code/${this.#lane.name}`);
      if (!response.ok) throw new Error(`status ${response.status}`);
      text.textContent = await response.text();
    } catch (error) {
      this.#isLoaded = false;
      text.textContent = `The code could not be loaded: ${error.message}. Open this card again to retry.`;
    }
  }

  async #copy(button, dialog) {
    const isCopied = await copy(this.#text(button.dataset.copy).textContent, dialog);
    for (const copied of this.#card.querySelectorAll(".copied")) copied.textContent = "";
    if (isCopied) button.parentElement.querySelector(".copied").textContent = "Copied";
  }
}
