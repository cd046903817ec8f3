import { CarillonError, jitter, pause } from './api.js';
import { EventParser } from './sse.js';

// Holds the stream open: reads it, notices when it is silent, reconnects where it left off, keeps the token fresh, and asks by long-poll where
// a proxy holds the stream back.

/** Milliseconds. Tests shorten them. */
export const TIMES = {
  /** The service sends `ready` at once: without it for so long something in between keeps it back. */
  first: 8_000,
  /** The service pings after 30 s of silence. */
  silence: 45_000,
  /** Of a long-poll, which waits 25 s at the service. */
  poll: 40_000,
  /** A stream is tried again instead of long-polls after half a minute, then after twice as long each time, up to this. */
  polling: 10 * 60_000,
  /** Before the first reconnect, as long as the service has not said another time. */
  retry: 1_500,
  longestRetry: 30_000,
};

export class Feed {
  #api;
  #times;
  #onBlock;
  #onStatus;
  #position;
  #retry;
  #wake = new AbortController();
  #attempt = null;
  #heardAt = 0;
  #pollsUntil = 0;
  #mutes = 0;
  #connection = null;
  #renewedAt = 0;

  /**
   * @param position from where on.
   * @param onBlock gets `{event, id, from, data}` of each change, `from` being the position before it.
   * @param onStatus gets `connecting`, `open`, `polling`, `reconnecting`, `offline` or `evicted`, and an error or null.
   */
  constructor({ api, position, times, query, onBlock, onStatus }) {
    this.#api = api;
    this.#position = position;
    this.#times = { ...TIMES, ...times };
    this.#retry = this.#times.retry;
    this.query = query;
    this.#onBlock = onBlock;
    this.#onStatus = onStatus;
  }

  get position() {
    return this.#position;
  }

  /** The network or the user is back: what waits goes on now, and what has been silent for too long is given up. */
  wake() {
    this.#wake.abort();
    this.#wake = new AbortController();
    if (this.#attempt && Date.now() - this.#heardAt > this.#times.silence) this.#attempt.abort();
  }

  /** The network is gone, as the browser says. */
  lost() {
    this.#attempt?.abort();
  }

  /** Runs until the signal is aborted. */
  async run(signal) {
    let failures = 0;
    this.#onStatus('connecting', null);
    while (!signal.aborted) {
      if (navigator.onLine === false) {
        this.#onStatus('offline', null);
        // `onLine` may be wrong: now and then it is tried all the same.
        await this.#rest(this.#times.longestRetry, signal);
        if (signal.aborted) return;
      }
      const polls = Date.now() < this.#pollsUntil;
      const end = await (polls ? this.#poll(signal) : this.#stream(signal));
      if (signal.aborted) return;
      if (end.retry !== undefined) this.#retry = end.retry;
      if (end.heard) failures = 0;
      if (end.evicted) {
        this.#onStatus('evicted', null);
        // Too many streams of this user. To take a place back at once would take it from another, and so on in turn.
        await this.#evicted(signal);
        continue;
      }
      if (end.mute) {
        // Nothing came of a stream that is open: asked by long-poll, whose answers are whole.
        this.#pollsUntil = Date.now() + Math.min(this.#times.polling, 30_000 * 2 ** Math.min(this.#mutes++, 6));
        continue;
      }
      // One that answers at once and has nothing to say would be asked without a pause.
      if (polls && end.heard && !end.isIdle) continue;
      if (polls && end.heard) {
        await this.#rest(this.#retry, signal);
        continue;
      }
      if (polls && !end.error?.isPassing) this.#pollsUntil = 0;
      this.#onStatus(navigator.onLine === false ? 'offline' : 'reconnecting', end.error ?? null);
      if (!end.heard) failures += 1;
      const backoff = failures > 1 ? Math.min(this.#times.longestRetry, 1000 * 2 ** Math.min(failures - 1, 6)) : 0;
      await this.#rest(Math.max(end.error?.retryAfter ?? 0, failures > 1 ? jitter(Math.max(backoff, this.#retry)) : this.#retry), signal);
    }
  }

  #rest(milliseconds, signal) {
    return pause(milliseconds, AbortSignal.any([signal, this.#wake.signal]));
  }

  async #evicted(signal) {
    await new Promise(resolve => {
      const both = AbortSignal.any([signal, this.#wake.signal]);
      if (both.aborted) resolve();
      both.addEventListener('abort', resolve);
    });
  }

  /** Opens one stream and reads it to its end. */
  async #stream(signal) {
    const attempt = (this.#attempt = new AbortController());
    const both = AbortSignal.any([signal, attempt.signal]);
    let heard = false, isMute = false, timer;
    const watch = milliseconds => {
      clearTimeout(timer);
      this.#heardAt = Date.now();
      timer = setTimeout(() => {
        isMute = !heard;
        attempt.abort();
      }, milliseconds);
    };
    const end = { heard: false, signal: both };
    try {
      watch(this.#times.first);
      // The place to go on from is in the query: the header would make of it EventSource's own reconnect, which an evicted stream must not do.
      const response = await this.#api.fetch('/v1/notifications/sse', {
        query: { ...this.query, last_event_id: this.#position }, headers: { accept: 'text/event-stream' }, signal: both,
      });
      if (response.status === 204) return { heard: true, evicted: true };
      if (!response.ok) return { error: await CarillonError.from(response) };
      if (!/^text\/event-stream\b/i.test(response.headers.get('content-type') ?? '')) {
        attempt.abort();
        return { error: new CarillonError({ status: 0, detail: 'What answered is not the service.' }) };
      }
      const parser = new EventParser(block => this.#take(block, end));
      const decoder = new TextDecoder();
      const reader = response.body.getReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (done || both.aborted) break;
        heard = end.heard = true;
        this.#mutes = 0;
        watch(this.#times.silence);
        parser.push(decoder.decode(value, { stream: true }));
      }
      // It ended without a word: cut off on the way. One without `close` but read for a while is no failure.
    } catch (cause) {
      if (isMute) end.mute = true;
      else if (!signal.aborted) end.error = cause instanceof CarillonError ? cause : new CarillonError({ status: 0, detail: 'The stream was cut off.' });
    } finally {
      clearTimeout(timer);
      this.#attempt = null;
    }
    return end;
  }

  /** One long-poll. */
  async #poll(signal) {
    const attempt = (this.#attempt = new AbortController());
    const timer = setTimeout(() => attempt.abort(), this.#times.poll);
    const began = performance.now();
    this.#heardAt = Date.now();
    this.#onStatus('polling', null);
    try {
      const response = await this.#api.fetch('/v1/notifications/poll', {
        // No longer than until a stream is tried again.
        query: { ...this.query, after: this.#position, timeout: Math.min(25, Math.max(1, Math.ceil((this.#pollsUntil - Date.now()) / 1000))) }, signal: AbortSignal.any([signal, attempt.signal]),
      });
      if (response.status === 204) return { heard: true, evicted: true };
      if (!response.ok) return { error: await CarillonError.from(response) };
      const { events, last_event_id } = await response.json();
      const end = { heard: true, isIdle: events.length === 0 && performance.now() - began < 500 };
      for (const { event, id, data } of events) {
        this.#take({ event: !event || event === 'notification' ? 'message' : event, id: id ?? undefined, data: typeof data === 'string' ? data : JSON.stringify(data) }, end);
      }
      if (last_event_id) this.#move({ event: 'position', id: last_event_id });
      return end;
    } catch (cause) {
      if (signal.aborted) return {};
      return { error: cause instanceof CarillonError ? cause : new CarillonError({ status: 0, detail: 'The service is out of reach.' }) };
    } finally {
      clearTimeout(timer);
      this.#attempt = null;
    }
  }

  #take({ event, id, data: text, retry }, end) {
    if (retry !== undefined) end.retry = Math.min(retry, 10 * 60_000);
    let data;
    if (text !== undefined) {
      try {
        data = JSON.parse(text);
      } catch {
        return; // Not the service's: nothing of it is JSON but what it sends.
      }
    }
    if (event === 'ready') {
      this.#connection = data.connection_id;
      this.#onStatus('open', null);
      this.#move({ event, id, data });
    } else if (event === 'auth_expiring') {
      this.#renew(data.connection_id ?? this.#connection, end.signal);
    } else if (event === 'close') {
      if (data.reason === 'evicted') end.evicted = true;
      // `retry:` counts, but the token is another one first.
      if (data.reason === 'token_expired') this.#api.forgetToken();
    } else if (event === 'resync') {
      this.#move({ event, id: id ?? data.last_event_id, data });
    } else if (id !== undefined || data?.ephemeral) {
      this.#move({ event: data === undefined ? 'position' : event, id, data });
    }
  }

  #move(block) {
    const from = this.#position;
    if (block.id && block.event !== 'ready') this.#position = block.id;
    this.#onBlock({ ...block, from });
  }

  /** With a fresh token the stream stays open. If that fails it ends with the old one, and is opened again with whatever token there is then. */
  async #renew(connection, signal) {
    // A token of less than a minute is said to end as soon as it is given.
    if (Date.now() - this.#renewedAt < 1000) await pause(1000, signal);
    if (signal.aborted) return;
    this.#renewedAt = Date.now();
    try {
      await this.#api.renew(connection);
    } catch (error) {
      this.#onStatus('open', error instanceof CarillonError ? error : new CarillonError({ status: 0, detail: String(error?.message ?? error) }));
    }
  }
}
