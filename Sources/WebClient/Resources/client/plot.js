import { make } from './dom.js';

const WIDTH = 300;
const HEIGHT = 80;

/** A line that moves: the last `span` milliseconds of up to two series. `show` takes null for what is not known. */
export class Plot {
  #samples = [];
  #span;
  #format;
  #names;

  constructor({ title, names = [], unit = '', format = String, span = 5 * 60_000 }) {
    this.#span = span;
    this.#format = format;
    this.#names = names;
    this.figure = make('p', { class: 'figure' }, '–');
    this.svg = make('svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', role: 'img', 'aria-label': title });
    this.range = make('span', {}, '');
    this.absent = make('p', { class: 'absent', hidden: true });
    this.body = make('div', {}, this.figure, this.svg,
      make('p', { class: 'legend' }, ...names.map((name, index) => make('span', { class: `key${index ? ' second' : ''}` }, name)), this.range));
    this.element = make('section', { class: 'card plot', 'aria-label': title }, make('h2', {}, title), this.absent, this.body);
    this.title = title;
    this.unit = unit;
  }

  /** Why there is nothing to show; null when there is. */
  explain(reason) {
    this.absent.hidden = reason === null;
    this.absent.textContent = reason ?? '';
    this.body.hidden = reason !== null;
  }

  show(...values) {
    this.explain(null);
    const now = Date.now();
    this.#samples.push({ at: now, values });
    while (this.#samples.length > 1 && this.#samples[0].at < now - this.#span) this.#samples.shift();
    const words = values.map(value => (value === null ? '–' : this.#format(value)));
    this.figure.replaceChildren(words.join(' / '), ' ', make('small', {}, this.unit));
    const top = niceTop(Math.max(...this.#samples.flatMap(sample => sample.values.map(value => value ?? 0))));
    this.range.textContent = `up to ${this.#format(top)}`;
    const x = at => WIDTH - ((now - at) / this.#span) * WIDTH;
    const y = value => HEIGHT - (value / top) * HEIGHT;
    const lines = values.map((_, index) => {
      const points = this.#samples.filter(sample => sample.values[index] !== null).map(sample => [x(sample.at), y(sample.values[index])]);
      if (!points.length) return [];
      const text = points.map(point => point.map(part => part.toFixed(1)).join(',')).join(' ');
      const name = index ? 'second' : 'first';
      return [
        index ? null : make('polygon', { class: `area ${name}`, points: `${points[0][0].toFixed(1)},${HEIGHT} ${text} ${WIDTH},${HEIGHT}` }),
        make('polyline', { class: `line ${name}`, points: text }),
      ];
    });
    const grid = [0, 0.5, 1].map(part => make('line', { class: 'grid', x1: 0, x2: WIDTH, y1: part * HEIGHT, y2: part * HEIGHT }));
    this.svg.replaceChildren(...grid, ...lines.flat().filter(Boolean));
    this.svg.setAttribute('aria-label', `${this.title}: ${words.map((word, index) => `${this.#names[index] ?? ''} ${word}`.trim()).join(', ')} ${this.unit}`);
  }
}

/** 1, 2 or 5 times a power of ten, and not below the value. */
function niceTop(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return power * [1, 2, 5, 10].find(step => step * power >= value);
}
