import { Api, CarillonError, Credentials, claimsOf } from './api.js';
import { byID, make } from './dom.js';
import { parseMetrics, percentile } from './metrics.js';
import { Plot } from './plot.js';
import { ago } from './time.js';

/** Milliseconds between two readings of what moves, and of what is listed. */
const OFTEN = 2_000;
const SELDOM = 10_000;

const number = new Intl.NumberFormat('en', { maximumFractionDigits: 1 });
const seconds = value => (value === null || value === undefined ? '–' : value < 0.01 ? `${number.format(value * 1000)} ms` : value < 1 ? `${Math.round(value * 1000)} ms` : value < 120 ? `${number.format(value)} s` : `${number.format(value / 60)} min`);

let api = null;
let metricsToken = '';
let life = null;

// --- Signing in --------------------------------------------------------------------------------------------------------------

byID('enter').addEventListener('submit', async event => {
  event.preventDefault();
  const token = byID('token').value.trim();
  metricsToken = byID('metrics-token').value.trim();
  const candidate = new Api(location.origin, new Credentials(() => token));
  const refuse = words => {
    byID('refused').textContent = words;
    byID('refused').hidden = false;
    byID('token').focus();
  };
  byID('refused').hidden = true;
  try {
    await candidate.call('GET', '/v1/admin/queues');
  } catch (error) {
    if (error.status === 401) return refuse('The service does not take this token.');
    if (error.status === 403) return refuse('This token has not the role admin, or is for some customers only.');
    // An edge of its own has no such route, and figures all the same; what is out of reach now may come back.
    if (error.status !== 421 && !error.isPassing) return refuse(error.message);
  }
  api = candidate;
  byID('token').value = byID('metrics-token').value = '';
  byID('enter').hidden = true;
  for (const id of ['board', 'status', 'pause', 'leave']) byID(id).hidden = false;
  start(claimsOf(token)?.sub ?? '');
});

byID('leave').addEventListener('click', () => {
  life.abort();
  api = null;
  byID('enter').hidden = false;
  for (const id of ['board', 'status', 'pause', 'leave']) byID(id).hidden = true;
  byID('board').replaceChildren();
  byID('token').focus();
});

let isPaused = false;
byID('pause').addEventListener('click', () => {
  isPaused = !isPaused;
  byID('pause').setAttribute('aria-pressed', String(isPaused));
  byID('pause').textContent = isPaused ? 'Go on' : 'Pause';
});

// --- The board ---------------------------------------------------------------------------------------------------------------

/** Why something is not there, in words for an operator. */
function reason(error) {
  if (!(error instanceof CarillonError)) return String(error?.message ?? error);
  if (error.status === 404 || error.status === 405) return 'Not available: this version of the service has no such route.';
  if (error.status === 421) return 'Not available here: this node has not the role api. Open the console through the load balancer, or on an API node.';
  if (error.status === 503) return `Not available now: ${error.message}`;
  if (error.status === 0) return 'Not available now: the service is out of reach.';
  return `Not available: ${error.message}`;
}

/** A row of cells that shows the thing of that id, wherever it stands. */
const keyed = (key, ...cells) => Object.assign(cells, { key });

/** A card with a table. `load` answers rows of cells; a cell is text, a number, or an element. Rows whose buttons do something have a key. */
function table({ title, columns, load, every, tools = null, empty = 'None.', half = false }) {
  const absent = make('p', { class: 'absent', role: 'status' }, 'Loading…');
  const body = make('tbody');
  const scroll = make('div', { class: 'scroll', tabindex: 0, role: 'group', 'aria-label': title, hidden: true },
    make('table', {}, make('thead', {}, make('tr', {}, ...columns.map(([name, kind]) => make('th', { class: kind, scope: 'col' }, name)))), body));
  const element = make('section', { class: `card${half ? ' half' : ''}`, 'aria-label': title }, make('div', { class: 'head' }, make('h2', {}, title), tools), absent, scroll);
  const nodeOf = value => (value instanceof Node ? value : document.createTextNode(String(value ?? '–')));
  const buttonsOf = node => [...(node.querySelectorAll?.('button') ?? [])].map(button => button.getAttribute('aria-label')).join();
  // A row stays the element that it is, with its buttons: one that is being pressed must not be exchanged for another.
  let known = new Map();
  const show = rows => {
    const next = new Map();
    for (const cells of rows) {
      const nodes = cells.map(nodeOf);
      const first = `${cells.key ?? nodes[0].textContent} ${nodes.map(buttonsOf).join()}`;
      let key = first;
      for (let copy = 2; next.has(key); copy++) key = `${first} ${copy}`;
      const row = known.get(key) ?? make('tr', {}, ...columns.map(([, kind]) => make('td', { class: kind })));
      nodes.forEach((node, index) => {
        const cell = row.children[index];
        if (!buttonsOf(node) || !cell.hasChildNodes()) cell.replaceChildren(node);
      });
      next.set(key, row);
    }
    known = next;
    const wanted = [...next.values()];
    for (const row of [...body.children]) if (!wanted.includes(row)) row.remove();
    wanted.forEach((row, index) => body.children[index] === row || body.insertBefore(row, body.children[index] ?? null));
  };
  const read = async () => {
    try {
      const rows = await load();
      show(rows);
      absent.textContent = empty;
      absent.hidden = rows.length > 0;
      scroll.hidden = rows.length === 0;
    } catch (error) {
      absent.textContent = reason(error);
      absent.hidden = false;
      scroll.hidden = true;
    }
  };
  return { element, read, every };
}

/** A button that does something, says when it could not, and reads the table anew. */
function act(label, name, what, then) {
  const button = make('button', { type: 'button', 'aria-label': `${label}: ${name}`, async onclick() {
    button.disabled = true;
    try {
      await what();
      await then();
      button.disabled = false;
    } catch (error) {
      button.textContent = 'Failed';
      button.title = reason(error);
      byID('status').textContent = reason(error);
    }
  } }, label);
  return button;
}

const state = text => make('span', { class: 'state', 'data-state': text }, text);
const when = text => (text ? make('time', { datetime: text, title: new Date(text).toLocaleString() }, ago(text)) : '–');

function start(who) {
  life = new AbortController();
  const { signal } = life;
  byID('status').textContent = who;
  byID('status').dataset.status = 'open';
  const get = (path, query) => api.call('GET', path, { query, signal });

  const plots = {
    streams: new Plot({ title: 'Open streams', format: value => number.format(value) }),
    created: new Plot({ title: 'Notifications', names: ['created', 'read'], unit: 'a second', format: value => number.format(value) }),
    fanout: new Plot({ title: 'Fan-out at this node', names: ['p50', 'p99'], format: seconds }),
    queues: new Plot({ title: 'Waiting in queues', names: ['depth'], format: value => number.format(value) }),
  };

  let connections = null;
  const edges = table({
    title: 'Edges', half: true, every: OFTEN, columns: [['Node'], ['Since'], ['Streams', 'number']],
    load: async () => {
      connections = get('/v1/admin/connections', { limit: 50 });
      try {
        const answer = await connections;
        plots.streams.show(answer.connections);
        return answer.edges.map(edge => [edge.node, when(edge.since), edge.connections ?? 'no answer']);
      } catch (error) {
        plots.streams.explain(reason(error));
        throw error;
      }
    },
  });

  const search = make('input', { 'aria-label': 'User', placeholder: 'user', maxlength: 128 });
  const users = table({
    title: 'Connected users', half: true, every: OFTEN, columns: [['User'], ['Streams'], ['', 'number']], empty: 'Nobody.',
    tools: make('form', { role: 'search', onsubmit(event) { event.preventDefault(); users.read(); } }, search, make('button', { type: 'submit' }, 'Find')),
    load: async () => {
      const asked = search.value.trim();
      const { data } = asked ? await get('/v1/admin/connections', { user_id: asked }) : await (connections ?? get('/v1/admin/connections', { limit: 50 }));
      const close = user => act('Disconnect', user, () => api.call('POST', `/v1/admin/users/${encodeURIComponent(user)}/disconnect`), users.read);
      if (asked) return data.map(each => keyed(each.connection_id, each.user_id, `${each.node}, ${ago(each.since)}`, close(each.user_id)));
      return data.map(each => keyed(each.user_id, each.user_id, each.connections ?? '', close(each.user_id)));
    },
  });

  const queues = table({
    title: 'Queues', half: true, every: OFTEN, columns: [['Queue'], ['Due', 'number'], ['Waiting', 'number'], ['Running', 'number'], ['Dead', 'number'], ['Oldest due', 'number']],
    load: async () => {
      try {
        const { data } = await get('/v1/admin/queues');
        // What waits for its time is not late.
        plots.queues.show(data.filter(queue => !['waiting', 'running', 'dead'].includes(queue.state)).reduce((sum, queue) => sum + queue.depth, 0));
        const names = [...new Set(data.map(queue => queue.queue))];
        return names.map(name => {
          const of = (...states) => data.find(queue => queue.queue === name && states.includes(queue.state));
          const depth = queue => (queue ? `${number.format(queue.depth)}${queue.at_least ? '+' : ''}` : '');
          const due = of('due', 'queued');
          return [name, depth(due), depth(of('waiting')), depth(of('running')), depth(of('dead')), due ? seconds(due.oldest_seconds) : ''];
        });
      } catch (error) {
        plots.queues.explain(reason(error));
        throw error;
      }
    },
  });

  const deliveries = table({
    title: 'Last deliveries', half: true, every: SELDOM, columns: [['User'], ['Channel'], ['State'], ['Reason'], ['', 'number']],
    load: async () => (await get('/v1/admin/deliveries', { limit: 50 })).data.map(each => [each.user_id, each.channel, state(each.state), each.reason ?? '', when(each.at)]),
  });

  const letters = table({
    title: 'Dead letters', every: SELDOM, columns: [['Queue'], ['For'], ['Attempts', 'number'], ['Error'], ['Since'], ['', 'number']],
    load: async () => (await get('/v1/admin/dead-letters', { limit: 50 })).data.map(each => keyed(
      each.id, each.queue, each.endpoint ?? each.user_id ?? each.notification_id, each.attempts, each.error ?? '', when(each.at),
      make('span', {}, act('Retry', each.id, () => api.call('POST', `/v1/admin/dead-letters/${each.id}/retry`), letters.read),
        act('Delete', each.id, () => api.call('DELETE', `/v1/admin/dead-letters/${each.id}`), letters.read)),
    )),
  });

  const attempts = table({
    title: 'Attempts of a webhook', every: SELDOM, columns: [['At'], ['Event'], ['Number', 'number'], ['Status', 'number'], ['Took', 'number'], ['Error']],
    load: async () => (await get(`/v1/webhooks/${encodeURIComponent(attempts.of)}/attempts`)).data.map(each => [
      when(each.at), each.type ?? each.event, each.number ?? each.attempt, each.status ?? 'no answer', each.duration_ms === undefined ? '–' : `${each.duration_ms} ms`, each.error ?? '',
    ]),
  });
  attempts.of = null;
  attempts.element.hidden = true;

  const webhooks = table({
    title: 'Webhooks', every: SELDOM, columns: [['URL'], ['Events'], ['State'], ['Failures', 'number'], ['Last error'], ['', 'number']],
    load: async () => (await get('/v1/webhooks')).data.map(each => keyed(
      each.id, each.url, (each.events ?? []).join(', '), state(each.status), each.failure_count, each.last_error ?? '',
      make('span', {}, act('Attempts', each.url, () => {
        attempts.of = each.id;
        attempts.element.hidden = false;
        attempts.element.querySelector('h2').textContent = `Attempts: ${each.url}`;
        return attempts.read();
      }, webhooks.read), each.status === 'ACTIVE' ? null : act('Enable', each.url, () => api.call('POST', `/v1/webhooks/${each.id}/enable`), webhooks.read)),
    )),
  });

  // --- Rates and latencies

  let totals = null;
  const rates = {
    every: OFTEN,
    async read() {
      try {
        const answer = await get('/v1/admin/stats', { group_by: 'state', since: new Date(Date.now() - 86_400_000).toISOString().slice(0, 10) });
        const now = { at: Date.parse(answer.counted_until), created: answer.summary.created, read: answer.summary.read };
        // The worker adds up a few seconds at a time: between two of its sums there is a rate.
        if (totals && now.at > totals.at) {
          const span = (now.at - totals.at) / 1000;
          plots.created.show(Math.max(0, now.created - totals.created) / span, Math.max(0, now.read - totals.read) / span);
        }
        if (!totals || now.at > totals.at) totals = now;
      } catch (error) {
        plots.created.explain(reason(error));
      }
    },
  };

  const readings = [];
  const fanout = {
    every: OFTEN,
    async read() {
      try {
        const answer = await fetch('/metrics', { signal, cache: 'no-store', headers: metricsToken ? { authorization: `Bearer ${metricsToken}` } : {} });
        if (answer.status === 401 || answer.status === 403) return plots.fanout.explain('Not available: this node asks for CARILLON_METRICS_TOKEN.');
        if (!answer.ok) return plots.fanout.explain('Not available through the load balancer, which keeps /metrics back. Open the console on an edge’s own address, or see the Grafana dashboard.');
        const now = parseMetrics(await answer.text());
        if (!now.has('carillon_fanout_seconds_count')) return plots.fanout.explain('Not available: this node has not the role edge.');
        readings.push(now);
        // Of the last half minute.
        if (readings.length > 15) readings.shift();
        plots.fanout.show(...[0.5, 0.99].map(part => percentile('carillon_fanout_seconds', part, now, readings.length > 1 ? readings[0] : null)));
      } catch {
        if (!signal.aborted) plots.fanout.explain('Not available now: the node is out of reach.');
      }
    },
  };

  const tables = [edges, users, queues, deliveries, letters, webhooks, attempts];
  byID('board').replaceChildren(...Object.values(plots).map(plot => plot.element), ...tables.map(each => each.element));

  for (const each of [...tables, rates, fanout]) {
    (async () => {
      while (!signal.aborted) {
        if (!isPaused && document.visibilityState === 'visible' && each.of !== null) await each.read();
        await new Promise(resolve => setTimeout(resolve, each.every));
      }
    })();
  }
}
