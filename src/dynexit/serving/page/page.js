// The page: what is asked, by which settings, and where the answers go.

import { Answer } from "./answer.js";
import { paint } from "./depth.js";
import { complete, model } from "./server.js";
import { FULL, Threshold } from "./threshold.js";

const EXAMPLES = {
  "a popular mistake": "Question: Is Sydney the capital of Australia?\nAnswer:",
  "a fact": "Question: Which chemical element has the symbol Au?\nAnswer:",
  "a story": "Story: Paula held a pink puzzle. She stood in the field. Sam was in the stable. " +
    "A white candle was in the field. Then Paula moved to the stable. After that, Paula handed " +
    "the puzzle to Sam. Sam walked to the field. He put down the puzzle.\n" +
    "Q: Who is in the stable at the moment?\nA: Paula\nQ: Tell me if Sam is now in the cellar.\nA:",
};
const CANDIDATES = 3; // most probable tokens to ask for
const LOOK = 100; // milliseconds between two looks of the numbers

const at = (id) => document.getElementById(id);
const threshold = new Threshold(at("threshold"), at("threshold-shown"), at("threshold-own"));
let card = {}; // what the server tells of its model
let running = null; // what stops the answers under way

function wishes(limit) {
  const body = {
    model: card.id,
    prompt: at("prompt").value,
    max_tokens: Number(at("max-tokens").value),
    temperature: Number(at("temperature").value),
    logprobs: CANDIDATES,
  };
  if (limit !== null) body.threshold = limit;
  if (at("lossless").checked && !(limit > 1)) body.lossless = true;
  return body;
}

async function answer(title, limit) {
  const shown = new Answer(title, at("answer-template"), card.dynexit ?? {});
  at("answers").append(shown.root);
  const look = setInterval(() => shown.draw(), LOOK);
  try {
    for await (const chunk of complete(wishes(limit), at("key").value, running.signal)) {
      shown.take(chunk);
    }
  } finally {
    clearInterval(look);
    shown.end();
  }
  return shown;
}

/** Do what `job` does, with the page in the state of answering. */
async function during(job) {
  running?.abort();
  const mine = (running = new AbortController());
  at("problem").hidden = at("verdict").hidden = true;
  at("answers").replaceChildren();
  at("stop").disabled = false;
  try {
    const told = await job();
    if (mine === running) at("told").textContent = told;
  } catch (error) {
    if (error.name !== "AbortError") tell(error);
  } finally {
    if (mine === running) at("stop").disabled = true;
  }
}

function exits() {
  return at("lossless").checked ? "With exits, lossless" : "With exits";
}

async function one() {
  const limit = threshold.threshold;
  const shown = await answer(limit > 1 ? "Full depth" : exits(), limit);
  return `Answer: ${shown.text.trim()}. ${summary(shown)}`;
}

async function both() {
  const limit = threshold.threshold;
  const early = await answer(limit > 1 ? "Full depth" : exits(), limit);
  const full = await answer("Full depth", FULL);
  const told = compare(early, full);
  at("verdict").textContent = told;
  at("verdict").hidden = false;
  return `${told} With exits: ${early.text.trim()}. Full depth: ${full.text.trim()}.`;
}

function compare(early, full) {
  const times = `${early.seconds.toFixed(2)} s with exits, ${full.seconds.toFixed(2)} s at full depth`;
  const [a, b] = [early.ids, full.ids];
  const differ = Array.from({ length: Math.max(a.length, b.length) }, (_, n) => n).find((n) => a[n] !== b[n]);
  if (differ === undefined) return `Token for token the same answer; ${times}.`;
  early.mark(differ);
  full.mark(differ);
  return `The answers differ from token ${differ + 1} on; ${times}.`;
}

function summary(shown) {
  const depth = shown.mean ? `, mean exit layer ${shown.mean.toFixed(1)} of ${shown.layers}` : "";
  return `${shown.tokens.length} tokens${depth}.`;
}

function offerExamples() {
  if (!card.id.startsWith("reference:")) return;
  for (const [title, prompt] of Object.entries(EXAMPLES)) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = title;
    button.addEventListener("click", () => {
      at("prompt").value = prompt;
      at("prompt").focus();
    });
    at("examples").append(button);
  }
  at("examples").hidden = false;
  at("prompt").value ||= Object.values(EXAMPLES)[0];
}

function drawLegend(layers, exitLayers) {
  const steps = [...new Set([...exitLayers, layers])].map((layer) => {
    const step = document.createElement("span");
    step.className = "step";
    step.textContent = layer;
    paint(step, layer, exitLayers, layers);
    return step;
  });
  at("legend").querySelector(".ramp").replaceChildren(...steps);
  at("legend").hidden = false;
}

async function meet() {
  try {
    card = await model(at("key").value);
    const { layers, judge, threshold: own, exits: exitLayers = [] } = card.dynexit ?? {};
    const words = [card.id];
    if (layers) words.push(`${layers} layers`, judge && judge !== "none" ? `judge ${judge}` : "no exits");
    at("model").textContent = words.join(", ");
    if (own !== undefined) threshold.know(own);
    if (layers) drawLegend(layers, exitLayers);
    offerExamples();
    at("problem").hidden = true;
  } catch (error) {
    at("model").textContent = "";
    tell(error);
  }
}

function tell(error) {
  at("problem").textContent = error.message;
  at("problem").hidden = false;
  if (error.status === 401) at("key").closest("details").open = true;
}

at("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  during(one);
});
at("compare").addEventListener("click", () => during(both));
at("stop").addEventListener("click", () => running?.abort());
at("numbers").addEventListener("change", (event) => {
  at("answers").classList.toggle("numbered", event.target.checked);
});
at("key").addEventListener("change", meet);
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") running?.abort();
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) at("ask").requestSubmit();
});
meet();
