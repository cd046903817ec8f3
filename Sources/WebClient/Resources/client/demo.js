import { connect, safeLink } from './carillon.js';
import { byID, make } from './dom.js';
import { ago } from './time.js';
import { showToasts } from './toasts.js';

const TYPES = {
  SYSTEM: 'System', chat: 'Chat', task: 'Tasks', BOOKING_CREATED: 'Bookings', RATE_QUOTED: 'Quotes', DOCUMENT_UPLOADED: 'Documents', PAYMENT_FAILED: 'Payments',
};
const CHANNELS = [['in_app', 'In the app'], ['email', 'E-mail'], ['sms', 'Text message']];

const parameters = new URLSearchParams(location.search);
const user = parameters.get('user') || 'demo';
const other = parameters.get('other') || (user === 'bob' ? 'demo' : 'bob');
const isFramed = parameters.has('framed');

const client = connect({
  token: async () => {
    const answer = await fetch(`/demo/token?user=${encodeURIComponent(user)}`, { method: 'POST' });
    if (!answer.ok) throw new Error('This node makes no tokens.');
    return (await answer.json()).token;
  },
  pageSize: 30,
});
showToasts(client);

// --- The bell and the list ---------------------------------------------------------------------------------------------------

/** What fails stands in the state's `error`. */
const attempt = promise => promise.catch(() => {});

const rows = new Map();

function row(item) {
  const known = rows.get(item.id);
  if (known?.item === item) return known.element;
  const button = (label, act) => make('button', { type: 'button', 'aria-label': `${label}: ${item.title}`, 'data-action': label, onclick: () => attempt(act(item.id)) }, label);
  const href = safeLink(item.link_url);
  const element = make('li', { class: 'carillon-item', 'data-id': item.id, 'data-read': String(item.read), 'data-level': item.level },
    make('div', { class: 'carillon-head' },
      item.read ? null : make('span', { class: 'carillon-dot', role: 'img', 'aria-label': 'Unread' }),
      make('strong', {}, item.title),
      make('time', { datetime: item.created_at, title: new Date(item.created_at).toLocaleString() }, ago(item.created_at))),
    item.content ? make('p', {}, item.content) : null,
    make('div', { class: 'carillon-actions' },
      href ? make('a', { href, onclick: () => item.read || attempt(client.markRead(item.id)) }, item.link_text || 'Open') : null,
      item.read ? button('Mark unread', client.markUnread) : button('Mark read', client.markRead),
      item.archived ? button('Unarchive', client.unarchive) : button('Archive', client.archive),
      button('Delete', client.remove)));
  // Whoever works by keyboard stays where they are when the row is made anew.
  const focused = known?.element.contains(document.activeElement) ? document.activeElement : null;
  rows.set(item.id, { item, element, refocus: focused && [...known.element.querySelectorAll('a, button')].indexOf(focused) });
  return element;
}

function draw(state) {
  const { notifications, unread, status, hasMore, isLoaded, error } = state;
  byID('badge').textContent = unread > 99 ? '99+' : unread;
  byID('badge').hidden = unread === 0;
  byID('bell').setAttribute('aria-label', unread ? `Notifications, ${unread} unread` : 'Notifications');
  byID('all-read').disabled = unread === 0;
  byID('status').textContent = status === 'open' ? 'live' : status;
  byID('status').dataset.status = status;
  document.title = `${unread ? `(${unread}) ` : ''}Carillon: ${user}`;
  byID('empty').hidden = !isLoaded || notifications.length > 0;
  byID('more').hidden = !hasMore;
  byID('error').hidden = !error;
  byID('error').textContent = error?.message ?? '';

  const list = byID('list');
  const focused = document.activeElement?.closest?.('.carillon-item');
  const place = focused ? [...list.children].indexOf(focused) : -1;
  const ids = new Set(notifications.map(item => item.id));
  for (const id of rows.keys()) if (!ids.has(id)) rows.delete(id);
  let next = list.firstChild;
  for (const item of notifications) {
    const element = row(item);
    if (element === next) next = next.nextSibling;
    else list.insertBefore(element, next);
  }
  while (next) next = remove(next);
  for (const { element, refocus } of rows.values()) if (refocus >= 0 && refocus !== null) element.querySelectorAll('a, button')[refocus]?.focus();
  for (const entry of rows.values()) entry.refocus = null;
  // The row with the focus is gone: the one in its place has it now.
  if (focused && !focused.isConnected && document.activeElement === document.body) {
    (list.children[Math.min(place, list.children.length - 1)]?.querySelector('a, button') ?? byID('centre')).focus();
  }
}

function remove(node) {
  const following = node.nextSibling;
  node.remove();
  return following;
}

client.subscribe(draw);
draw(client.getState());

const more = () => attempt(client.loadMore());
byID('more').addEventListener('click', more);
const sight = new IntersectionObserver(entries => entries.some(entry => entry.isIntersecting) && more(), { rootMargin: '200px' });
// An observer hears of a change only: observing anew asks again while the end is in sight. Not for any other news: one that fails is news, too.
let [shown, filtered] = [-1, null];
client.subscribe(({ notifications, filter, status }) => {
  const now = `${status} ${notifications.length}`;
  if (now === shown && filter === filtered) return;
  [shown, filtered] = [now, filter];
  sight.unobserve(byID('more'));
  sight.observe(byID('more'));
});

byID('all-read').addEventListener('click', () => attempt(client.markAllRead()));
byID('bell').addEventListener('click', () => {
  byID('centre').focus();
  attempt(client.markSeen());
});

const filters = { all: {}, unread: { status: 'unread' }, archived: { archived: true } };
let chosen = 'all';
const choose = () => {
  for (const button of document.querySelectorAll('[data-filter]')) button.setAttribute('aria-pressed', String(button.dataset.filter === chosen));
  client.setFilter({ ...filters[chosen], ...(byID('type').value && { type: byID('type').value }) });
};
for (const button of document.querySelectorAll('[data-filter]')) {
  button.addEventListener('click', () => {
    chosen = button.dataset.filter;
    choose();
  });
}
for (const [type, label] of Object.entries(TYPES)) {
  byID('type').append(make('option', { value: type }, label));
  byID('send-type').append(make('option', { value: type }, label));
}
byID('type').addEventListener('change', choose);

setInterval(() => {
  for (const time of document.querySelectorAll('time')) time.textContent = ago(time.dateTime);
}, 30_000);

// --- Sending -----------------------------------------------------------------------------------------------------------------

async function send(to, number) {
  const answer = await fetch('/demo/notify', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      user_id: to, type: byID('send-type').value, title: byID('title').value + (number ? ` ${number}` : ''), content: byID('content').value || null,
      level: byID('level').value, priority: byID('priority').value, link_url: byID('link').value || null,
      ...(byID('by-email').checked && { channels: ['in_app', 'email'] }),
    }),
  });
  if (!answer.ok) throw new Error((await answer.json()).detail);
}

async function sendAll(to, count) {
  const say = text => { byID('sent').textContent = text; };
  try {
    for (let number = 1; number <= count; number++) await send(to, count > 1 ? number : null);
    say(count > 1 ? `${count} sent to ${to}.` : `Sent to ${to}.`);
    if (byID('by-email').checked) expectMails();
  } catch (error) {
    say(error.message);
  }
}

byID('to').value = user;
byID('user').textContent = user;
byID('send').addEventListener('submit', event => {
  event.preventDefault();
  sendAll(byID('to').value, 1);
});
byID('ten').addEventListener('click', () => sendAll(byID('to').value, 10));
byID('other').addEventListener('click', () => sendAll(other, 1));

// --- E-mails -----------------------------------------------------------------------------------------------------------------

async function showMails() {
  const answer = await fetch(`/demo/mails?user=${encodeURIComponent(user)}`);
  if (!answer.ok) {
    byID('no-mails').textContent = answer.status === 404 ? 'They do not go to files here.' : 'They cannot be listed now.';
    return;
  }
  const { data } = await answer.json();
  byID('no-mails').hidden = data.length > 0;
  byID('mails').replaceChildren(...data.map(mail => make('li', {}, make('details', {},
    make('summary', {}, make('strong', {}, mail.subject ?? 'No subject'), ' to ', mail.to, ' ', make('time', { datetime: mail.at }, ago(mail.at))),
    make('pre', {}, mail.text ?? '')))));
}

/** A worker sends them, in a moment or, by what the type wants, later. */
async function expectMails() {
  for (const seconds of [0.5, 1, 2, 4]) {
    await new Promise(resolve => setTimeout(resolve, seconds * 1000));
    await attempt(showMails());
  }
}

// --- The other user and the preferences --------------------------------------------------------------------------------------

if (isFramed) {
  document.body.classList.add('framed');
  byID('panels').remove();
} else {
  byID('frame-title').textContent = `The other user: ${other}`;
  byID('frame').src = `/demo?${new URLSearchParams({ user: other, framed: '' })}`;
  drawPreferences();
  attempt(showMails());
  document.addEventListener('visibilitychange', () => document.visibilityState === 'visible' && attempt(showMails()));
}

async function drawPreferences() {
  const form = byID('preferences');
  form.addEventListener('submit', event => event.preventDefault());
  const said = make('p', { role: 'status' });
  const save = async changes => {
    said.textContent = '';
    try {
      await client.preferences.set(changes);
      said.textContent = 'Saved.';
    } catch (error) {
      said.textContent = error.message;
    }
  };
  const choice = (name, label, value, change) => {
    const select = make('select', { name, onchange: () => save(change(select.value === '' ? null : select.value === 'true')) },
      make('option', { value: '' }, 'Default'), make('option', { value: 'true' }, 'Yes'), make('option', { value: 'false' }, 'No'));
    select.value = value === undefined ? '' : String(value);
    return make('label', {}, make('span', {}, label), select);
  };
  let shown = null;
  const show = preferences => {
    if (!preferences || preferences === shown) return;
    shown = preferences;
    if (form.contains(document.activeElement) && form.childElementCount) {
      // The one who changes them is still at it: the values only.
      for (const select of form.querySelectorAll('select')) {
        const [type, name] = select.name.split(':');
        const value = type ? preferences.types?.[type]?.channels?.[name] : preferences.channels?.[name];
        select.value = value === undefined ? '' : String(value);
      }
      return;
    }
    form.replaceChildren(
      make('fieldset', {}, make('legend', {}, 'Everything'),
        ...CHANNELS.map(([name, label]) => choice(`:${name}`, label, preferences.channels?.[name], value => ({ channels: { [name]: value } })))),
      ...Object.entries(TYPES).filter(([type]) => type !== 'SYSTEM').slice(0, 3).map(([type, label]) => make('fieldset', {}, make('legend', {}, label),
        ...CHANNELS.map(([name, words]) =>
          choice(`${type}:${name}`, words, preferences.types?.[type]?.channels?.[name], value => ({ types: { [type]: { channels: { [name]: value } } } }))))),
      said);
  };
  client.subscribe(state => show(state.preferences));
  try {
    await client.preferences.get();
  } catch (error) {
    form.replaceChildren(make('p', { role: 'status' }, error.message));
  }
}
