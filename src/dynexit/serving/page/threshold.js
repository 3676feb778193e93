// The slider of thresholds. Scores of trained judges crowd below 1, so its steps get finer there.
// Above 1 no score leaves: that is full depth. Until it is moved, the server's own thresholds hold.

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

  /** Learn the server's own threshold: a number, or a list with one for each exit, or null. */
  know(threshold) {
    const many = [threshold ?? FULL].flat();
    const [least, most] = [Math.min(...many), Math.max(...many)];
    const words = least === most ? name(least) : `${name(least)} to ${name(most)}`;
    this.usual = `the server's own, ${words}`;
    const distance = (position) => Math.abs(position - most);
    const nearest = POSITIONS.reduce((a, b) => (distance(b) < distance(a) ? b : a));
    this.input.value = POSITIONS.indexOf(nearest);
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
  return threshold > 1 ? "full depth" : String(Number(threshold.toFixed(4)));
}
