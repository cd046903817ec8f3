// One of all tabs that show the same inbox holds the stream: the one with the lock (Web Locks API). The others hear from it (BroadcastChannel). When it
// goes its lock is given to the next one, which goes on where it is itself.

/** A leader that does not answer a visible tab for so long is frozen. */
const PATIENCE = 10_000;
const CHECK = 20_000;

/**
 * @param key names what is shared; null: nothing is.
 * @param lead `async signal => {}` holds the stream until the signal is aborted.
 * @param hear `message => {}` gets what other tabs say.
 * @param greet `() => message`: what the leader answers to a tab that asks.
 * @returns {{post: (message: object) => void, ask: () => void, close: () => void, readonly leads: boolean}}
 */
export function shareTabs({ key, lead, hear, greet }) {
  const closing = new AbortController();
  let leading = null;
  if (key === null || !navigator.locks || typeof BroadcastChannel !== 'function') {
    leading = closing;
    lead(closing.signal);
    return { post() {}, ask() {}, close: () => closing.abort(), get leads() { return true; } };
  }

  const name = `carillon:${key}`;
  const channel = new BroadcastChannel(name);
  let heardAt = Date.now();
  let queue = null;

  const post = message => {
    if (!closing.signal.aborted) channel.postMessage(message);
  };
  const ask = () => post({ kind: 'hello' });
  channel.onmessage = ({ data }) => {
    if (data.kind === 'hello') {
      if (leading) post(greet());
      return;
    }
    // Only the leader says anything else but `wake` and `preferences`.
    if (data.kind !== 'wake' && data.kind !== 'preferences') heardAt = Date.now();
    hear(data);
  };

  const hold = async () => {
    leading = new AbortController();
    const stop = () => leading?.abort();
    closing.signal.addEventListener('abort', stop);
    try {
      await lead(leading.signal);
    } finally {
      closing.signal.removeEventListener('abort', stop);
      leading = null;
    }
  };
  const enter = async steal => {
    queue?.abort();
    const mine = (queue = new AbortController());
    closing.signal.addEventListener('abort', () => mine.abort());
    try {
      await navigator.locks.request(name, steal ? { steal: true } : { signal: mine.signal }, hold);
    } catch (error) {
      if (error.name !== 'AbortError') throw error;
      // Another tab has taken the lock away from this one; or this one no longer waits for its turn, since it takes it, or is closed.
      leading?.abort();
    }
    if (!closing.signal.aborted && queue === mine) enter(false);
  };

  const check = () => {
    if (leading || document.visibilityState !== 'visible') return;
    const asked = Date.now();
    ask();
    setTimeout(() => {
      if (!leading && !closing.signal.aborted && heardAt < asked && document.visibilityState === 'visible') enter(true);
    }, PATIENCE);
  };
  const timer = setInterval(check, CHECK);
  document.addEventListener('visibilitychange', check);
  enter(false);

  return {
    post,
    ask,
    close() {
      clearInterval(timer);
      document.removeEventListener('visibilitychange', check);
      closing.abort();
      channel.close();
    },
    get leads() { return leading !== null; },
  };
}
