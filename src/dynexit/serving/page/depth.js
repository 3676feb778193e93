// How depth looks: --share is the part of the layers that ran, --warmth the place between the first
// exit and full depth. The style sheet makes heights and colours of them.

/** Give an element the looks of exit layer `layer`; `exits` are the model's exit layers. */
export function paint(element, layer, exits, layers) {
  const first = Math.min(...exits, layers);
  const span = layers - first;
  element.style.setProperty("--share", layers ? layer / layers : 1);
  element.style.setProperty("--warmth", span > 0 ? Math.max(layer - first, 0) / span : 1);
}

/** Where a token left, in words. */
export function words({ exit_layer: layer, score }, layers) {
  const left = layer >= layers ? `all ${layers} layers` : `left after layer ${layer} of ${layers}`;
  return score === null || score === undefined ? left : `${left}, score ${score.toFixed(4)}`;
}
