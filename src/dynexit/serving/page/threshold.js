// The slider of thresholds. Scores of trained judges crowd below 1, so its steps get finer there.
// Above 1 no score leaves: that is full depth. The first position leaves it to the server.

const STOPS = [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.92, 0.94, 0.95, 0.96, 0.97,
  0.98, 0.985, 0.99, 0.993, 0.995, 0.997, 0.998, 0.999];
export const FULL = 2;
const POSITIONS = [...STOPS, FULL];

/** A range input whose `threshold` is a number, or null for the server's own. */
export class Threshold {
  constructor(input, shown, reset) {
    this.input = input;
    this.shown = shown;
    this.reset = reset;
    this.own = true;
    this.usual = "the server's own";
    input.max = POSITIONS.length - 1;
    input.value = STOPS.indexOf(0.95);
    input.addEventListener("input", () => this.move(false));
    reset.addEventListener("click", () => this.move(true));
    this.move(true);
  }

  get threshold() {
    return this.own ? null : POSITIONS[this.input.value];
  }

  /** What the server's own threshold is, for people: a number or a list, one an exit. */
  know(threshold) {
    const many = [threshold].flat().filter((one) => one !== null && one !== undefined);
    if (many.length) this.usual = `the server's own: ${many.join(", ")}`;
    const nearest = STOPS.reduce((a, b) => (Math.abs(b - many[0]) < Math.abs(a - many[0]) ? b : a));
    if (many.length) this.input.value = STOPS.indexOf(nearest);
    this.move(true);
  }

  move(own) {
    this.own = own;
    this.reset.hidden = own;
    const words = own ? this.usual : name(this.threshold);
    this.shown.textContent = words;
    this.input.setAttribute("aria-valuetext", words);
  }
}

/** A threshold in words. */
export function name(threshold) {
  return threshold > 1 ? "full depth" : String(threshold);
}
