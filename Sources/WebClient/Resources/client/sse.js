// The event stream format (WHATWG HTML, 9.2.6), without I/O.

/** More than any event of the service: longer ones are left out, so that a broken stream cannot fill the memory. */
const LONGEST = 1 << 20;

/**
 * Splits a stream's text into blocks `{event, id, data, retry}`. Absent fields are undefined; `event` is `message` where none is named.
 * Unlike EventSource it hands out blocks of an `id:` alone, since those move the position along.
 */
export class EventParser {
  #onBlock;
  #rest = '';
  #begun = false;
  #size = 0;
  #block = null;

  constructor(onBlock) {
    this.#onBlock = onBlock;
  }

  push(text) {
    if (!this.#begun && text) {
      this.#begun = true;
      if (text.startsWith('\uFEFF')) text = text.slice(1);
    }
    this.#rest += text;
    // A CR at the very end may be half of a CRLF.
    const lines = /\r\n|\n|\r(?!$)/g;
    let start = 0;
    for (let match; (match = lines.exec(this.#rest)); start = lines.lastIndex) this.#line(this.#rest.slice(start, match.index));
    this.#rest = this.#rest.slice(start);
    if (this.#rest.length > LONGEST) {
      this.#rest = '';
      this.#size = Infinity;
    }
  }

  #line(line) {
    if (line === '') {
      const block = this.#block;
      const fits = this.#size <= LONGEST;
      this.#block = null;
      this.#size = 0;
      if (block && fits) this.#onBlock({ ...block, event: block.event || 'message', data: block.data?.join('\n') });
      return;
    }
    this.#size += line.length;
    if (this.#size > LONGEST || line.startsWith(':')) return;
    const colon = line.indexOf(':');
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(line[colon + 1] === ' ' ? colon + 2 : colon + 1);
    const block = (this.#block ??= {});
    if (name === 'event') block.event = value;
    else if (name === 'data') (block.data ??= []).push(value);
    else if (name === 'id' && !value.includes('\0')) block.id = value;
    else if (name === 'retry' && /^\d+$/.test(value)) block.retry = Number(value);
  }
}
