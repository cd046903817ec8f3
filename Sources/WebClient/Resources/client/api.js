// Requests to the service, each with a token that is still good.

/** An answer that is an error (RFC 9457), or no answer at all: then `status` is 0. */
export class CarillonError extends Error {
  /** @param {{status: number, code?: string, detail?: string, errors?: {pointer: string, detail: string}[], retryAfter?: number}} problem */
  constructor({ status, code, detail, errors, retryAfter }) {
    super(detail || code || `The service answered ${status}.`);
    this.name = 'CarillonError';
    this.status = status;
    this.code = code ?? null;
    this.errors = errors ?? [];
    /** Milliseconds. */
    this.retryAfter = retryAfter ?? null;
  }

  static async from(response) {
    let problem = {};
    try {
      problem = await response.json();
    } catch {
      // Not from the service: a proxy's own page.
    }
    const seconds = Number(response.headers.get('retry-after'));
    return new CarillonError({
      status: response.status, code: problem.code, detail: problem.detail, errors: problem.errors,
      retryAfter: Number.isFinite(seconds) && seconds > 0 ? Math.min(seconds, 300) * 1000 : undefined,
    });
  }

  /** Whether the same request may succeed later. */
  get isPassing() {
    return (this.status === 0 && this.code === null) || this.status === 408 || this.status === 429 || this.status >= 500;
  }
}

/** The claims of a JWT, unchecked; null for anything else. */
export function claimsOf(token) {
  try {
    const part = token.split('.')[1].replaceAll('-', '+').replaceAll('_', '/');
    return JSON.parse(new TextDecoder().decode(Uint8Array.from(atob(part), letter => letter.charCodeAt(0))));
  } catch {
    return null;
  }
}

/** Whose inbox a token opens and what of it: two tokens of which this is another must not share anything. Null where that cannot be told. */
export function scopeOf(token) {
  const claims = token && claimsOf(token);
  if (claims?.sub === undefined) return null;
  return JSON.stringify([claims.sub, Array.isArray(claims.customers) ? [...claims.customers].sort() : claims.customers ?? null]);
}

/** Keeps what the application's token function answered until it is about to end or is refused. */
export class Credentials {
  #source;
  #scope;
  #onOther;
  #token = null;
  #until = Infinity;
  #asking = null;

  /**
   * @param source `() => token | Promise<token>`; absent: the cookie is the credential.
   * @param onOther is told, with an error, when a token is another user's than the first, or has other rights. Nothing is asked for with it.
   */
  constructor(source, onOther = () => {}) {
    this.#source = source;
    this.#onOther = onOther;
  }

  /** The next one is asked for. */
  forget() {
    this.#token = null;
  }

  get byCookie() {
    return !this.#source;
  }

  /** @param refused The token that is not to be given again. */
  async token(refused) {
    if (!this.#source) return null;
    if (this.#token && this.#token !== refused && Date.now() < this.#until) return this.#token;
    // One question at a time, whoever wants to know.
    this.#asking ??= (async () => {
      try {
        const token = await this.#source();
        if (typeof token !== 'string' || !token) throw new CarillonError({ status: 401, detail: 'The token function answered no token.' });
        const scope = scopeOf(token);
        if (this.#scope === undefined) this.#scope = scope;
        if (scope !== this.#scope) {
          const error = new CarillonError({ status: 0, code: 'carillon.other_user', detail: 'Another user has signed in, or this one has other rights: connect anew.' });
          this.#onOther(error);
          throw error;
        }
        const ends = claimsOf(token)?.exp;
        this.#token = token;
        // By this machine's clock, which may be wrong: a token that seems to have ended is used all the same, and asked for anew each time.
        const left = ends * 1000 - Date.now();
        this.#until = typeof ends === 'number' ? Date.now() + left - Math.min(10_000, left / 10) : Infinity;
        return token;
      } finally {
        this.#asking = null;
      }
    })();
    return this.#asking;
  }
}

export class Api {
  constructor(base, credentials) {
    this.base = base;
    this.credentials = credentials;
  }

  url(path, query) {
    const url = new URL(this.base + path);
    for (const [name, value] of Object.entries(query ?? {})) if (value !== undefined && value !== null && value !== '') url.searchParams.set(name, value);
    return url;
  }

  /** `fetch` with a token; after a 401 once more with a fresh one. Answers whatever the status. */
  async fetch(path, { method = 'GET', query, body, headers, signal } = {}) {
    let refused;
    for (;;) {
      const token = await this.credentials.token(refused);
      const response = await fetch(this.url(path, query), {
        method, signal, cache: 'no-store', credentials: this.credentials.byCookie ? 'include' : 'omit', referrerPolicy: 'no-referrer',
        headers: {
          ...headers, ...(token && { authorization: `Bearer ${token}` }), ...(body !== undefined && { 'content-type': 'application/json' }),
        },
        body: body === undefined ? undefined : JSON.stringify(body),
      });
      if (response.status !== 401 || refused !== undefined || !token) return response;
      response.body?.cancel().catch(() => {}); // A connection that breaks meanwhile is no news.
      refused = token;
    }
  }

  /** The current token is not to be used again. */
  forgetToken() {
    this.credentials.forget();
  }

  /** Extends an open stream with a fresh token. */
  async renew(connection) {
    this.credentials.forget();
    await this.call('POST', '/v1/notifications/stream-renew', { body: { connection_id: connection } });
  }

  /** JSON of an answer that is a success, null of an empty one. All that goes through here may be repeated safely. */
  async call(method, path, options = {}) {
    for (let attempt = 1; ; attempt++) {
      let error;
      try {
        const response = await this.fetch(path, { ...options, method });
        if (response.ok) return response.status === 204 ? null : await response.json();
        error = await CarillonError.from(response);
      } catch (cause) {
        if (options.signal?.aborted) throw cause;
        error = cause instanceof CarillonError ? cause : new CarillonError({ status: 0, detail: 'The service is out of reach.' });
      }
      if (!error.isPassing || attempt === 3 || navigator.onLine === false) throw error;
      await pause(error.retryAfter ?? jitter(300 * 2 ** attempt), options.signal);
    }
  }
}

/** Half of it to all of it, at random. */
export const jitter = milliseconds => milliseconds * (0.5 + Math.random() / 2);

/** Ends early, without an error, when the signal is aborted. */
export function pause(milliseconds, signal) {
  return new Promise(resolve => {
    if (signal?.aborted) return resolve();
    const done = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, milliseconds);
    signal?.addEventListener('abort', done);
  });
}
