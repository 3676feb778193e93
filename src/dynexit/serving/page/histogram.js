// Tokens by exit layer, as bars with their numbers.

import { paint } from "./depth.js";

const NS = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT, FOOT, HEAD] = [480, 130, 18, 16];

/** An SVG of `counts`, a Map from exit layer to tokens; `exits` are layers shown even if empty. */
export function histogram(counts, exits, layers) {
  const shown = [...new Set([...exits, ...counts.keys(), layers])].sort((a, b) => a - b);
  const most = Math.max(1, ...counts.values());
  const slot = WIDTH / shown.length;
  const bar = Math.min(slot * 0.7, 64);
  const parts = shown.flatMap((layer, at) => {
    const count = counts.get(layer) ?? 0;
    const height = (HEIGHT - FOOT - HEAD) * (count / most);
    const middle = slot * (at + 0.5);
    const rect = element("rect", {
      x: middle - bar / 2, y: HEIGHT - FOOT - height, width: bar, height, rx: 2,
    });
    paint(rect, layer, exits, layers);
    return [
      rect,
      element("text", { x: middle, y: HEIGHT - FOOT - height - 4 }, count || ""),
      element("text", { x: middle, y: HEIGHT - 4 }, layer),
    ];
  });
  const base = HEIGHT - FOOT + 0.5;
  const told = shown.map((layer) => `layer ${layer}: ${counts.get(layer) ?? 0}`).join(", ");
  const svg = element("svg", {
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `Tokens by exit layer. ${told}`,
  });
  svg.append(element("line", { x1: 0, x2: WIDTH, y1: base, y2: base }), ...parts);
  return svg;
}

function element(name, attributes, text) {
  const made = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}
