// @ts-check
/// <reference lib="dom" />
/// <reference lib="dom.iterable" />

/** The conversation: what is asked, the answers as they come, and how fast they came. */

import { ask, events } from "./server.js";

const EXAMPLES = {
  chat: [
    "Tell me a story about a fox",
    "What did the little bird find in the garden?",
    "Write about a rainy day",
  ],
  text: [
    "Once upon a time there was a little fox who",
    "The old boat in the harbour",
    "On a rainy day, the children",
  ],
};

/** The API's own limit for texts, 16 tokens, is none to read. */
const TEXT_TOKENS = 256;

const find = (/** @type {string} */ id) => /** @type {HTMLElement} */ (document.getElementById(id));

/**
 * @param {string} name
 * @param {Record<string, unknown>} fields
 * @param {(Node | string)[]} children
 */
function make(name, fields = {}, ...children) {
  const element = Object.assign(document.createElement(name), fields);
  element.append(...children);
  return element;
}

/** An answer's texts, which grow; the document is touched once per frame. */
class Answer {
  constructor() {
    this.thought = document.createTextNode("");
    this.text = document.createTextNode("");
    this.element = make(
      "div",
      {},
      make("div", { className: "thought" }, this.thought),
      make("div", { className: "answer" }, this.text),
    );
    this.whole = "";
    this.pendingThought = "";
    this.pendingText = "";
  }

  flush() {
    if (this.pendingThought !== "") this.thought.appendData(this.pendingThought);
    if (this.pendingText !== "") this.text.appendData(this.pendingText);
    this.pendingThought = this.pendingText = "";
  }
}

export class Talk {
  /** @type {{ role: string, content: string }[]} */
  #messages = [];
  #model = "";
  /** @type {AbortController | null} */
  #running = null;
  #log = find("log");
  #form = /** @type {HTMLFormElement} */ (find("ask"));
  #prompt = /** @type {HTMLTextAreaElement} */ (find("prompt"));
  #send = /** @type {HTMLButtonElement} */ (find("send"));
  #clear = /** @type {HTMLButtonElement} */ (find("clear"));
  #opening = find("opening");
  /** Whether the end of the conversation is in view, and stays so. */
  #follows = true;

  constructor() {
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.#running !== null) this.#running.abort();
      else this.#ask();
    });
    this.#prompt.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      if (this.#running === null) this.#ask();
    });
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.#running?.abort();
    });
    const log = this.#log;
    log.addEventListener(
      "scroll",
      () => this.#follows = log.scrollHeight - log.scrollTop - log.clientHeight < 48,
    );
    new ResizeObserver(() => this.#scroll()).observe(log);
    const more = find("more"), fields = find("fields");
    more.addEventListener("click", () => {
      fields.hidden = !fields.hidden;
      more.setAttribute("aria-expanded", String(!fields.hidden));
    });
    this.#clear.addEventListener("click", () => this.#startOver());
    this.#form.addEventListener("change", (event) => {
      if (/** @type {HTMLInputElement} */ (event.target).name === "mode") this.#showMode();
    });
    this.#showMode();
  }

  /**
   * The server has said what it serves.
   *
   * @param {{ id: string, chat: boolean }} model
   */
  meet(model) {
    if (this.#model === model.id) return;
    this.#model = model.id;
    const [chat, text] = this.#modes();
    if (!model.chat) {
      chat.disabled = text.checked = true;
      chat.parentElement?.setAttribute("title", "This model has no chat template.");
    }
    this.#showMode();
  }

  /** @returns {[HTMLInputElement, HTMLInputElement]} */
  #modes() {
    const [chat, text] =
      /** @type {NodeListOf<HTMLInputElement>} */ (this.#form.querySelectorAll("[name=mode]"));
    return [/** @type {HTMLInputElement} */ (chat), /** @type {HTMLInputElement} */ (text)];
  }

  get #chats() {
    return this.#modes()[0].checked;
  }

  #showMode() {
    const chats = this.#chats;
    this.#prompt.placeholder = chats ? "Message" : "Text to go on from";
    const system = /** @type {HTMLElement} */ (this.#form.querySelector("[name=system]"));
    /** @type {HTMLElement} */ (system.parentElement).hidden = !chats;
    find("examples").replaceChildren(...EXAMPLES[chats ? "chat" : "text"].map((text) => {
      const button = make("button", { type: "button", textContent: text });
      button.addEventListener("click", () => {
        this.#prompt.value = text;
        this.#ask();
      });
      return make("li", {}, button);
    }));
  }

  /** @param {string} name */
  #value(name) {
    const input = /** @type {HTMLInputElement} */ (this.#form.querySelector(`[name=${name}]`));
    return input.value.trim();
  }

  /** Parameters that were given; the others are the model's own. */
  #parameters() {
    const names = ["temperature", "top_p", "max_tokens", "seed", "n"];
    return Object.fromEntries(
      names.map((name) => [name, this.#value(name)]).filter(([, value]) => value !== "").map((
        [name, value],
      ) => [
        name,
        Number(value),
      ]),
    );
  }

  #startOver() {
    this.#running?.abort();
    this.#messages = [];
    this.#log.replaceChildren(this.#opening);
    this.#clear.hidden = true;
    this.#prompt.focus();
  }

  #scroll() {
    if (this.#follows) this.#log.scrollTop = this.#log.scrollHeight;
  }

  /** @param {HTMLElement} turn */
  #append(turn) {
    this.#opening.remove();
    this.#clear.hidden = false;
    this.#log.append(turn);
    this.#follows = true;
    this.#scroll();
  }

  #ask() {
    const text = this.#prompt.value;
    if (text.trim() === "" || !this.#form.reportValidity()) return;
    this.#prompt.value = "";
    const chats = this.#chats;
    const common = {
      model: this.#model,
      stream: true,
      stream_options: { include_usage: true },
      ...this.#parameters(),
    };
    this.#append(make("div", { className: "turn asked", textContent: text }));
    if (!chats) {
      this.#stream("v1/completions", { prompt: text, max_tokens: TEXT_TOKENS, ...common });
      return;
    }
    const system = this.#value("system");
    this.#messages.push({ role: "user", content: text });
    const messages = [...(system === "" ? [] : [{ role: "system", content: system }]), ...this.#messages];
    this.#stream("v1/chat/completions", { messages, ...common });
  }

  /**
   * Shows the answers to a request as they come.
   *
   * @param {string} path
   * @param {Record<string, unknown>} body
   */
  async #stream(path, body) {
    const count = Number(body["n"] ?? 1);
    const answers = Array.from({ length: count }, () => new Answer());
    const footer = make("footer", { textContent: "waiting" });
    const box = make(
      "div",
      { className: count > 1 ? "answers many" : "answers" },
      ...answers.map((one) => one.element),
    );
    const turn = make("div", { className: "turn writing" }, box, footer);
    if (count > 1) turn.style.maxWidth = "none";
    this.#append(turn);
    const running = this.#running = new AbortController();
    const messages = this.#messages; // another list once the reader starts over
    this.#send.textContent = "Stop";
    this.#log.setAttribute("aria-busy", "true");

    const started = performance.now();
    let first = 0, last = 0, pieces = 0, tokens = 0, frame = 0;
    let finish = "";
    const speed = () => {
      const made = tokens || pieces;
      const seconds = (last - first) / 1000;
      const rate = made > 1 && seconds > 0
        ? ` · ${Math.round((made - 1) / seconds).toLocaleString("en")} tokens/s`
        : "";
      return `${made.toLocaleString("en")} ${made === 1 ? "token" : "tokens"}${rate} · first after ${
        duration(first - started)
      }`;
    };
    const flush = () => {
      frame = 0;
      for (const answer of answers) answer.flush();
      if (pieces > 0) footer.textContent = speed();
      this.#scroll();
    };
    try {
      const response = await ask(path, {
        method: "POST",
        body: JSON.stringify(body),
        signal: running.signal,
      });
      for await (const chunk of events(response)) {
        if (chunk.error) throw new Error(chunk.error.message);
        if (chunk.usage) tokens = chunk.usage.completion_tokens;
        for (const { index, delta, text, finish_reason: reason } of chunk.choices) {
          const answer = answers[index];
          if (answer === undefined) continue;
          const words = text ?? delta.content ?? "";
          const thought = delta?.reasoning_content ?? "";
          if (words !== "" || thought !== "") {
            last = performance.now();
            if (pieces++ === 0) first = last;
          }
          answer.whole += words;
          answer.pendingText += words;
          answer.pendingThought += thought;
          if (reason === "length") finish = " · cut at its longest";
        }
        frame ||= requestAnimationFrame(flush);
      }
    } catch (error) {
      if (running.signal.aborted) finish = " · stopped";
      else {
        turn.classList.add("failed");
        finish = `${pieces > 0 ? " · " : ""}${/** @type {Error} */ (error).message}`;
      }
    }
    cancelAnimationFrame(frame);
    flush();
    footer.textContent = (pieces > 0 ? speed() : turn.classList.contains("failed") ? "" : "nothing came") +
      finish;
    turn.classList.remove("writing");
    this.#log.removeAttribute("aria-busy");
    if (this.#running !== running) return;
    this.#running = null;
    this.#send.textContent = "Send";
    const [answer] = answers;
    if (!path.includes("chat")) return;
    if (answer && answer.whole !== "") messages.push({ role: "assistant", content: answer.whole });
    else messages.pop();
  }
}

/** @param {number} ms */
function duration(ms) {
  return ms < 9.95
    ? `${ms.toFixed(1)} ms`
    : ms < 999.5
    ? `${Math.round(ms)} ms`
    : `${(ms / 1000).toFixed(1)} s`;
}
