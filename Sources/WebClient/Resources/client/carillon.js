// The browser's client of Carillon. See docs/browser.md; types are in carillon.d.ts.

import { Api, CarillonError, Credentials, jitter, pause, scopeOf } from './api.js';
import { Feed } from './feed.js';
import { Inbox } from './inbox.js';
import { safeLink } from './links.js';
import { comparePositions, parsePosition } from './position.js';
import { shareTabs } from './tabs.js';

export { CarillonError, safeLink };

/** Changes that come while the list is being loaded; past this it is loaded once more. */
const MOST_WAITING = 1_000;

/**
 * Opens the signed-in user's inbox: its list, its counts, and what changes from now on.
 *
 * @param {object} options
 * @param options.token `() => JWT | Promise<JWT>`; called again whenever a fresh one is needed. Absent: the cookie is the credential.
 * @param options.url where the service is; by default where this page is from.
 * @param options.user names the inbox where no token does (with a cookie): tabs with the same name share a stream.
 * @param options.filter `{status, archived, type, event, level, priority, customer_id}` of the list.
 * @param options.customer narrows the whole of it, the stream too, to one customer.
 * @param options.pageSize of the list, 1 to 200. @param options.maximum of notifications in memory.
 * @param options.shared false: this tab has a stream of its own.
 */
export function connect(options = {}) {
  const client = new Client(options);
  latest ??= client;
  return client;
}

let latest = null;
/** The first one that was connected and is not closed, or null. */
export const currentClient = () => latest;

/** One listener that throws keeps nothing from the others, nor from the stream: the page hears of it as of any other error. */
function tell(listener, what) {
  try {
    listener(what);
  } catch (error) {
    reportError(error);
  }
}

class Client {
  #options;
  #api;
  #inbox;
  #most;
  #filter;
  #tabs = null;
  #feed = null;
  #life = new AbortController();
  #listeners = new Set();
  #arrivals = new Set();
  #state;
  #status = 'connecting';
  #error = null;
  #loading = null;
  #loadAgain = false;
  #isLoaded = false;
  #loadingMore = null;
  #waiting = [];
  /** Of the last change of which it is known whether it was to be announced. */
  #announcedTo = null;
  #leaderAt = null;
  #preferences = null;
  #counting = null;
  #isStale = false;

  constructor({ token, url = '', user = null, filter = {}, customer = null, pageSize = 50, maximum = 1000, shared = true, times = {} }) {
    this.#options = { user, customer, pageSize, shared, times };
    this.#api = new Api(new URL(url || '/', globalThis.location.href).href.replace(/\/+$/, ''), new Credentials(token, error => this.#end(error)));
    this.#inbox = new Inbox(this.#most = Math.max(pageSize, maximum));
    this.#filter = filter;
    this.#state = this.#makeState();
    // Bound: React calls them on their own.
    for (const name of ['subscribe', 'getState', 'markRead', 'markUnread', 'markAllRead', 'markSeen', 'archive', 'unarchive', 'remove', 'loadMore']) {
      this[name] = this[name].bind(this);
    }
    this.preferences = {
      get: () => this.#getPreferences(),
      set: changes => this.#setPreferences(changes),
    };
    this.#start();
  }

  // MARK: State

  /** `{notifications, unread, unseen, status, error, hasMore, isLoaded, filter, preferences}`; another object whenever something is different. */
  getState() {
    return this.#state;
  }

  /** Calls back after each change. Answers the function that ends it. */
  subscribe(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Calls back with each notification that arrives from now on; direct events have `ephemeral: true`. Answers the function that ends it. */
  onNotification(listener) {
    this.#arrivals.add(listener);
    return () => this.#arrivals.delete(listener);
  }

  get leads() {
    return this.#tabs?.leads ?? false;
  }

  close() {
    this.#stop();
    this.#listeners.clear();
    this.#arrivals.clear();
  }

  #stop() {
    if (latest === this) latest = null;
    this.#life.abort();
    this.#tabs?.close();
    this.#status = 'closed';
    this.#changed();
  }

  /** What was here is not for whoever is signed in now. */
  #end(error) {
    if (this.#life.signal.aborted) return;
    this.#stop();
    this.#inbox = new Inbox(this.#most);
    this.#preferences = null;
    this.#waiting = [];
    this.#error = error;
  }

  #makeState() {
    return {
      ...this.#inbox.view, status: this.#status, error: this.#error, isLoaded: this.#isLoaded, filter: this.#filter, preferences: this.#preferences,
    };
  }

  /** Listeners hear once of all that happens in one go. */
  #changed() {
    if (this.#isStale) return;
    this.#isStale = true;
    queueMicrotask(() => {
      this.#isStale = false;
      const [before, now] = [this.#state, this.#makeState()];
      if (Object.keys(now).every(name => now[name] === before[name])) return;
      this.#state = now;
      for (const listener of [...this.#listeners]) tell(listener, now);
    });
  }

  // MARK: Life

  async #start() {
    let token = null;
    for (let failures = 0; !this.#life.signal.aborted; failures++) {
      try {
        token = await this.#api.credentials.token();
        break;
      } catch (cause) {
        this.#fail(cause);
        await pause(jitter(Math.min(30_000, 1000 * 2 ** failures)), this.#life.signal);
      }
    }
    if (this.#life.signal.aborted) return;
    const heard = { signal: this.#life.signal };
    addEventListener('online', () => this.#wake(), heard);
    addEventListener('offline', () => this.#feed?.lost(), heard);
    document.addEventListener('visibilitychange', () => document.visibilityState === 'visible' && this.#wake(), heard);
    addEventListener('focus', () => this.#status === 'evicted' && this.#wake(), heard);

    this.#tabs = shareTabs({
      key: this.#options.shared ? this.#key(token) : null,
      lead: signal => this.#lead(signal),
      hear: message => this.#hear(message),
      greet: () => ({ kind: 'status', status: this.#status, position: this.#feed?.position ?? null }),
    });
    this.#tabs.ask();
    this.#load();
  }

  /** Whose inbox of which service this is. Tabs of another user, or with other rights, must not hear of it. */
  #key(token) {
    const who = scopeOf(token) ?? this.#options.user;
    if (who === null || who === undefined) return null;
    return JSON.stringify([this.#api.base, who, this.#options.customer]);
  }

  #wake() {
    this.#feed?.wake();
    if (!this.#tabs?.leads) this.#tabs?.post({ kind: 'wake' });
  }

  /** This tab holds the stream. It begins where this tab is, so that what the one before it has not passed on comes again. */
  async #lead(signal) {
    while (!this.#inbox.position && !signal.aborted) await (this.#load(), this.#loading);
    if (signal.aborted) return;
    const feed = (this.#feed = new Feed({
      api: this.#api, position: this.#inbox.position, times: this.#options.times, query: { customer_id: this.#options.customer },
      onBlock: block => {
        this.#tabs?.post({ kind: 'block', block });
        this.#take(block);
      },
      onStatus: (status, error) => {
        this.#tabs?.post({ kind: 'status', status, position: feed.position });
        this.#show(status, error);
      },
    }));
    try {
      await feed.run(signal);
    } finally {
      this.#feed = null;
    }
  }

  #hear(message) {
    if (message.kind === 'wake') this.#feed?.wake();
    else if (message.kind === 'preferences') {
      this.#preferences = message.preferences;
      this.#changed();
    } else if (this.#tabs?.leads) {
      // What the leader before this one still had to say.
    } else if (message.kind === 'block') this.#take(message.block);
    else if (message.kind === 'status') {
      this.#show(message.status, null);
      this.#leaderIs(message.position);
    }
  }

  #show(status, error) {
    if (this.#life.signal.aborted) return;
    this.#status = status;
    this.#error = error;
    this.#changed();
  }

  #fail(cause) {
    const error = cause instanceof CarillonError ? cause : new CarillonError({ status: 0, detail: String(cause?.message ?? cause) });
    this.#error = error;
    this.#changed();
    return error;
  }

  // MARK: What comes

  /** @param isLate it came while the list was being loaded. */
  #take(block, isLate = false) {
    if (this.#life.signal.aborted || block.event === 'ready') return;
    if (block.data?.ephemeral) return this.#announce(block.data);
    if (block.event === 'resync') {
      this.#announcedTo = block.id;
      this.#leaderAt = block.id;
      this.#waiting = [];
      this.#load();
      return;
    }
    if (this.#loading || !this.#isLoaded) {
      this.#waiting.push(block);
      if (this.#waiting.length > MOST_WAITING) {
        // The list that comes next may be older than what is let go here.
        this.#leaderAt = block.id;
        this.#waiting = [];
      }
      return;
    }
    const [here, there] = [parsePosition(this.#inbox.position), parsePosition(block.id)];
    const isOther = !here || !there || there.epoch !== here.epoch;
    // Of a life of the data that the list has left behind.
    if (isOther && isLate) return;
    if (isOther || comparePositions(block.from, this.#inbox.position) > 0) {
      // It is another life of the data, or something is missing in between: then the list that is loaded now has this change.
      this.#leaderAt = block.id;
      if (!isOther && !isLate) this.#waiting.push(block);
      this.#load();
      return;
    }
    if (comparePositions(block.id, this.#inbox.position) <= 0) return this.#announceListed(block);
    const { fresh, count, reload } = this.#inbox.apply(block);
    this.#announcedTo = block.id;
    this.#changed();
    if (fresh) this.#announce(fresh);
    if (reload) this.#load();
    else if (count) this.#count();
  }

  #announce(notification) {
    for (const listener of [...this.#arrivals]) tell(listener, notification);
  }

  /** It came while the list was being loaded, which has it: it has arrived all the same. What a stream says again after a hand-over has not. */
  #announceListed({ event, id, data }) {
    if (comparePositions(id, this.#announcedTo) <= 0) return;
    this.#announcedTo = id;
    if (event !== 'message' || this.#inbox.get(data.id)?.read) return;
    const { unread, ...notification } = data;
    this.#announce(this.#inbox.get(data.id) ?? notification);
  }

  /** The stream is past what this tab has: it missed something. */
  #leaderIs(position) {
    if (!position) return;
    this.#leaderAt = position;
    if (this.#isLoaded && !this.#loading && comparePositions(position, this.#inbox.position) > 0) this.#load();
  }

  // MARK: The list

  #query() {
    return { order: 'newest', limit: this.#options.pageSize, customer_id: this.#options.customer, ...this.#filter };
  }

  /** Loads the first page, until it is there. What is asked meanwhile is asked once more. */
  #load() {
    if (this.#loading) {
      this.#loadAgain = true;
      return;
    }
    this.#loading = (async () => {
      for (let failures = 0; !this.#life.signal.aborted;) {
        this.#loadAgain = false;
        const filter = this.#filter;
        try {
          const page = await this.#api.call('GET', '/v1/notifications', { query: this.#query(), signal: this.#life.signal });
          if (this.#loadAgain) continue;
          this.#inbox.loaded(page, filter);
          this.#error = null;
          // A list from before what the stream has shown: read again, from a moment after it.
          if (this.#leaderAt && comparePositions(this.#leaderAt, page.last_event_id) > 0 && failures++ < 5) {
            await pause(jitter(200), this.#life.signal);
            continue;
          }
          break;
        } catch (cause) {
          if (this.#life.signal.aborted) return;
          const error = this.#fail(cause);
          const woken = new AbortController();
          const wake = () => woken.abort();
          addEventListener('online', wake, { once: true });
          await pause(Math.max(error.retryAfter ?? 0, jitter(Math.min(30_000, 1000 * 2 ** failures++))), AbortSignal.any([this.#life.signal, woken.signal]));
          removeEventListener('online', wake);
        }
      }
    })().finally(() => {
      this.#loading = null;
      if (this.#life.signal.aborted) return;
      this.#isLoaded = true;
      this.#changed();
      const waiting = this.#waiting;
      this.#waiting = [];
      // Of a list that was loaded before anything came, nothing has just arrived.
      if (this.#announcedTo === null) this.#announcedTo = waiting[0]?.from ?? this.#inbox.position;
      for (const block of waiting) this.#take(block, true);
    });
  }

  /** The next page, at the end of the list. */
  async loadMore() {
    const asked = this.#isLoaded && !this.#loading && this.#inbox.nextPage;
    if (!asked) return;
    this.#loadingMore ??= (async () => {
      try {
        const filter = this.#filter;
        const page = await this.#api.call('GET', '/v1/notifications', { query: { ...this.#query(), ...asked }, signal: this.#life.signal });
        if (filter !== this.#filter || this.#loading) return;
        if (!this.#inbox.loadedMore(page, asked)) this.#load();
        this.#changed();
      } catch (cause) {
        if (!this.#life.signal.aborted) throw this.#fail(cause);
      } finally {
        this.#loadingMore = null;
      }
    })();
    return this.#loadingMore;
  }

  /** Another choice of notifications: `{status, archived, type, event, level, priority}`. Resolves when its first page is there. */
  async setFilter(filter) {
    this.#filter = { ...filter };
    this.#changed();
    this.#load();
    await this.#loading;
  }

  /** The list anew. */
  async reload() {
    this.#load();
    await this.#loading;
  }

  /** Soon, once for all who ask, and again while the inbox moves on meanwhile. */
  #count() {
    this.#counting ??= (async () => {
      try {
        for (let attempt = 1, isRight = false; !isRight && attempt <= 5; attempt++) {
          await pause(jitter(400 * attempt), this.#life.signal);
          isRight = this.#inbox.counted(await this.#api.call('GET', '/v1/notifications/count', { signal: this.#life.signal }));
        }
        this.#changed();
      } catch (cause) {
        if (!this.#life.signal.aborted) this.#fail(cause);
      } finally {
        this.#counting = null;
      }
    })();
  }

  // MARK: Actions

  markRead(id) { return this.#patch(id, { read: true }); }
  markUnread(id) { return this.#patch(id, { read: false }); }
  archive(id) { return this.#patch(id, { archived: true }); }
  unarchive(id) { return this.#patch(id, { archived: false }); }

  #patch(id, fields) {
    return this.#act({ kind: 'patch', id, fields }, 'PATCH', `/v1/notifications/${encodeURIComponent(id)}`, fields, answer => ({ seq: answer.seq }));
  }

  /** All of them, or those of a `{type, customer_id}`. */
  markAllRead({ type, customer_id } = {}) {
    const filter = Object.fromEntries(Object.entries({ type, customer_id: customer_id ?? this.#options.customer ?? undefined }).filter(([, value]) => value !== undefined));
    return this.#act({ kind: 'readAll', filter }, 'POST', '/v1/notifications/read-all', filter, answer => ({ position: answer.last_event_id }));
  }

  /** All seen: the user has opened the list. */
  markSeen() {
    if (this.#inbox.view.unseen === 0) return Promise.resolve();
    return this.#act({ kind: 'seen' }, 'POST', '/v1/notifications/seen', undefined, answer => ({ position: answer.last_event_id }));
  }

  remove(id) {
    return this.#act({ kind: 'remove', id }, 'DELETE', `/v1/notifications/${encodeURIComponent(id)}`, undefined, () => ({}));
  }

  /** Shows it, asks for it, and takes it back when it fails: then the promise is rejected with the error. */
  async #act(action, method, path, body, confirmation) {
    const pending = this.#inbox.begin(action);
    this.#changed();
    try {
      const answer = await this.#api.call(method, path, { body, signal: this.#life.signal });
      this.#inbox.confirm(pending, confirmation(answer));
    } catch (cause) {
      if (this.#life.signal.aborted) return;
      // Gone already is what was wanted; an answer that was lost may have said so before.
      if (cause.status === 404 && action.kind === 'remove') return this.#inbox.confirm(pending);
      this.#inbox.fail(pending);
      throw this.#fail(cause);
    } finally {
      this.#changed();
    }
  }

  // MARK: Preferences

  async #getPreferences() {
    this.#preferences = await this.#api.call('GET', '/v1/notifications/preferences', { query: { customer_id: this.#options.customer }, signal: this.#life.signal });
    this.#changed();
    return this.#preferences;
  }

  /** Merges (RFC 7396): null takes a word back. */
  async #setPreferences(changes) {
    this.#preferences = await this.#api.call('PATCH', '/v1/notifications/preferences', {
      query: { customer_id: this.#options.customer }, body: changes, signal: this.#life.signal,
    });
    this.#tabs?.post({ kind: 'preferences', preferences: this.#preferences });
    this.#changed();
    return this.#preferences;
  }
}
