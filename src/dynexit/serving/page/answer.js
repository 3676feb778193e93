// One answer on the page: its tokens in the colours of depth, its numbers, its histogram.

import { paint, words } from "./depth.js";
import { histogram } from "./histogram.js";

let answers = 0; // for ids that are on the page once

/** Shows the chunks of a completion as they come. */
export class Answer {
  constructor(title, template, card) {
    this.root = template.content.cloneNode(true).firstElementChild;
    this.exits = card.exits ?? [];
    this.layers = card.layers ?? 0;
    this.tokens = [];
    this.begun = performance.now();
    this.number = ++answers;
    this.list = this.root.querySelector(".tokens");
    this.inspector = this.root.querySelector(".inspector");
    this.root.querySelector("h2").textContent = title;
    this.root.classList.add("running");
    this.list.setAttribute("aria-label", `${title}: tokens, arrow keys move between them`);
    this.list.addEventListener("pointerover", (event) => this.#point(event.target));
    this.list.addEventListener("keydown", (event) => this.#key(event));
  }

  get text() {
    return this.tokens.map((token) => token.text).join("");
  }

  get ids() {
    return this.tokens.map((token) => token.id ?? token.text);
  }

  get seconds() {
    return ((this.ended ?? performance.now()) - this.begun) / 1000;
  }

  /** Take a chunk of the stream: a token, or what the whole answer cost. */
  take(chunk) {
    const depth = chunk.dynexit ?? {};
    if (depth.layers) this.layers = depth.layers;
    if (depth.exit_layer !== undefined) {
      const [choice] = chunk.choices;
      this.first ??= performance.now();
      this.#add({ ...depth, text: choice.text, likely: likely(choice.logprobs) });
    }
    if (depth.mean_exit_layer !== undefined) this.whole = depth;
  }

  /** No more comes. */
  end() {
    this.ended = performance.now();
    this.root.classList.remove("running");
    this.draw();
  }

  /** Bring numbers and histogram up to date. */
  draw() {
    const { layers } = this;
    const counts = new Map();
    for (const { exit_layer: layer } of this.tokens) counts.set(layer, (counts.get(layer) ?? 0) + 1);
    const total = this.tokens.reduce((sum, token) => sum + token.exit_layer, 0);
    const mean = this.whole?.mean_exit_layer ?? (this.tokens.length ? total / this.tokens.length : NaN);
    this.#figure("tokens", this.tokens.length);
    this.#figure("time", `${this.seconds.toFixed(2)} s`);
    this.#figure("speed", this.tokens.length ? (this.tokens.length / this.seconds).toFixed(0) : "–");
    if (!layers || Number.isNaN(mean)) return;
    this.saving = this.whole?.layer_saving ?? 1 - mean / layers; // drafts save otherwise
    this.mean = mean;
    this.#figure("mean", `${mean.toFixed(1)} of ${layers}`);
    this.#figure("saving", `${(100 * this.saving).toFixed(0)}%`);
    for (const { element, exit_layer: layer } of this.tokens) {
      if (element) paint(element, layer, this.exits, layers);
    }
    this.root.querySelector(".histogram").replaceChildren(histogram(counts, this.exits, layers));
  }

  /** Mark the token at which this answer leaves another one. */
  mark(at) {
    this.tokens[at]?.element?.classList.add("other");
  }

  #add(token) {
    this.tokens.push(token);
    if (!token.text) return; // the end of the text, or half a character
    const made = document.createElement("span");
    made.className = "token";
    made.id = `answer-${this.number}-token-${this.tokens.length}`;
    made.role = "option";
    made.ariaSelected = "false";
    made.textContent = token.text;
    made.dataset.layer = token.exit_layer;
    made.ariaLabel = `${token.text.trim() || "white space"}, ${words(token, this.layers)}`;
    paint(made, token.exit_layer, this.exits, this.layers);
    token.element = made;
    this.list.append(made);
  }

  #point(target) {
    const token = this.tokens.find((one) => one.element && one.element === target);
    if (token) this.#inspect(token);
  }

  #key(event) {
    const shown = this.tokens.filter((token) => token.element);
    const at = shown.indexOf(this.inspected);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: shown.length - 1 }[event.key];
    if (to === undefined || !shown.length) return;
    event.preventDefault();
    this.#inspect(shown[Math.min(Math.max(to, 0), shown.length - 1)]);
  }

  #inspect(token) {
    if (this.inspected?.element) this.inspected.element.ariaSelected = "false";
    this.inspected = token;
    token.element.ariaSelected = "true";
    this.list.setAttribute("aria-activedescendant", token.element.id);
    const parts = [code(token.text), ` ${words(token, this.layers)}`];
    if (token.likely.length) {
      parts.push("; most probable: ");
      for (const [text, probability] of token.likely) {
        parts.push(code(text), ` ${(100 * probability).toFixed(0)}% `);
      }
    }
    this.inspector.replaceChildren(...parts);
  }

  #figure(name, value) {
    this.root.querySelector(`[data-figure="${name}"]`).textContent = value;
  }
}

/** Candidates as [text, probability], best first. */
function likely(logprobs) {
  const top = logprobs?.top_logprobs?.[0] ?? {};
  return Object.entries(top).map(([text, log]) => [text, Math.exp(log)]).sort((a, b) => b[1] - a[1]);
}

function code(text) {
  const made = document.createElement("code");
  made.textContent = text.replaceAll("\n", "⏎");
  return made;
}
