// Carillon for React 18 and 19. React is not imported here: `createCarillonReact(React)` takes it, hooks.js imports it (bundlers, import maps), and the
// names below use the page's own `React` where there is one.

import { connect, currentClient } from './carillon.js';
import { safeLink } from './links.js';
import { ago } from './time.js';
import { showToasts } from './toasts.js';

/** Makes the hook and the components for this copy of React. */
export function createCarillonReact(React) {
  const { createContext, createElement: h, useCallback, useContext, useEffect, useId, useMemo, useRef, useState, useSyncExternalStore } = React;
  const Context = createContext(null);

  /** Connects with these options (see `connect`), or takes `client`, for all that is inside. */
  function CarillonProvider({ client, options, children }) {
    const [own, setOwn] = useState(null);
    const [users, setUsers] = useState(0);
    useEffect(() => {
      if (client) return undefined;
      const made = connect(options);
      // The token function answered another user's token.
      made.subscribe(({ error }) => error?.code === 'carillon.other_user' && setUsers(users + 1));
      setOwn(made);
      return () => made.close();
      // eslint-disable-next-line react-hooks/exhaustive-deps
    }, [client, users]);
    const value = client ?? own;
    return value ? h(Context.Provider, { value }, children) : null;
  }

  /** The client of the provider around, else the page's first one. */
  function useCarillon() {
    const client = useContext(Context) ?? currentClient();
    if (!client) throw new Error('There is no Carillon client: call connect() first, or put a CarillonProvider around this.');
    return client;
  }

  // One region of toasts for each client, however many components use the hook.
  const regions = new Map();
  function useToasts(client, isWanted, settings) {
    useEffect(() => {
      if (!isWanted) return undefined;
      const region = regions.get(client) ?? { users: 0, end: showToasts(client, settings) };
      region.users += 1;
      regions.set(client, region);
      return () => {
        region.users -= 1;
        if (region.users > 0) return;
        region.end();
        regions.delete(client);
      };
      // The first one's settings count.
      // eslint-disable-next-line react-hooks/exhaustive-deps
    }, [client, isWanted]);
  }

  /**
   * The inbox, live, with toasts on new ones.
   *
   * @param {{toasts?: boolean | {seconds?: number}}} options
   */
  function useNotifications({ toasts = true } = {}) {
    const client = useCarillon();
    const state = useSyncExternalStore(client.subscribe, client.getState, client.getState);
    useToasts(client, toasts !== false, typeof toasts === 'object' ? toasts : {});
    return useMemo(() => ({
      ...state,
      markRead: client.markRead, markUnread: client.markUnread, markAllRead: client.markAllRead, markSeen: client.markSeen,
      archive: client.archive, unarchive: client.unarchive, remove: client.remove, loadMore: client.loadMore,
      setFilter: filter => client.setFilter(filter),
      loadPreferences: client.preferences.get, setPreferences: client.preferences.set,
    }), [client, state]);
  }

  /** What was tried and failed is in the state's `error` already. */
  const attempt = promise => promise?.catch?.(() => {});

  function Bell({ isOpen, controls, onClick, label = 'Notifications' }) {
    const { unread } = useNotifications();
    const words = unread ? `${label}, ${unread} unread` : label;
    return h('button', { type: 'button', className: 'carillon-bell', 'aria-label': words, 'aria-expanded': isOpen, 'aria-controls': controls, onClick },
      h('svg', { viewBox: '0 0 24 24', width: 24, height: 24, 'aria-hidden': true, focusable: 'false' },
        h('path', { d: 'M12 3a6 6 0 0 0-6 6v4l-2 3v1h16v-1l-2-3V9a6 6 0 0 0-6-6Zm-2 16a2 2 0 0 0 4 0Z', fill: 'currentColor' })),
      unread > 0 && h('span', { className: 'carillon-badge', 'aria-hidden': true }, unread > 99 ? '99+' : unread));
  }

  function Item({ item }) {
    const { markRead, markUnread, archive, unarchive, remove } = useNotifications();
    const href = safeLink(item.link_url);
    const action = (label, act) => h('button', { type: 'button', onClick: () => attempt(act(item.id)), 'aria-label': `${label}: ${item.title}` }, label);
    return h('li', { className: 'carillon-item', 'data-read': item.read, 'data-level': item.level, 'data-id': item.id },
      h('div', { className: 'carillon-head' },
        !item.read && h('span', { className: 'carillon-dot', role: 'img', 'aria-label': 'Unread' }),
        h('strong', null, item.title), h('time', { dateTime: item.created_at }, ago(item.created_at))),
      item.content && h('p', null, item.content),
      h('div', { className: 'carillon-actions' },
        href && h('a', { href, onClick: () => item.read || attempt(markRead(item.id)) }, item.link_text || 'Open'),
        item.read ? action('Mark unread', markUnread) : action('Mark read', markRead),
        item.archived ? action('Unarchive', unarchive) : action('Archive', archive), action('Delete', remove)));
  }

  function NotificationList() {
    const { notifications, isLoaded, hasMore, loadMore } = useNotifications();
    const end = useRef(null);
    // The observer hears of a change only: what is still in sight after a page asks for the next one.
    useEffect(() => {
      if (!hasMore || !end.current) return undefined;
      const observer = new IntersectionObserver(entries => entries.some(entry => entry.isIntersecting) && attempt(loadMore()));
      observer.observe(end.current);
      return () => observer.disconnect();
    }, [hasMore, loadMore, notifications.length]);
    if (isLoaded && !notifications.length) return h('p', { className: 'carillon-empty' }, 'Nothing here.');
    return h('div', null,
      h('ol', { className: 'carillon-list', 'aria-busy': !isLoaded }, notifications.map(item => h(Item, { key: item.id, item }))),
      hasMore && h('button', { type: 'button', ref: end, className: 'carillon-more', onClick: () => attempt(loadMore()) }, 'Show more'));
  }

  /** The list with its filter and "mark all read". Opening it means that all have been seen. */
  function NotificationCentre({ id, title = 'Notifications' }) {
    const { notifications, unread, unseen, status, error, filter, setFilter, markAllRead, markSeen } = useNotifications();
    const heading = useId();
    const newest = notifications[0]?.id;
    const tried = useRef(null);
    useEffect(() => {
      // Once for each newest one: what was refused is not asked for again until there is more to see.
      if (unseen === 0 || tried.current === newest) return;
      tried.current = newest;
      attempt(markSeen());
    }, [unseen, newest, markSeen]);
    const choice = filter.archived === true ? 'archived' : filter.status ?? 'all';
    const choose = event => attempt(setFilter({ all: {}, unread: { status: 'unread' }, archived: { archived: true } }[event.target.value]));
    return h('section', { id, className: 'carillon-centre', 'aria-labelledby': heading },
      h('header', null, h('h2', { id: heading }, title),
        h('label', null, 'Show ', h('select', { value: choice, onChange: choose },
          h('option', { value: 'all' }, 'All'), h('option', { value: 'unread' }, 'Unread'), h('option', { value: 'archived' }, 'Archived'))),
        h('button', { type: 'button', disabled: unread === 0, onClick: () => attempt(markAllRead()) }, 'Mark all read')),
      status !== 'open' && status !== 'polling' && h('p', { className: 'carillon-status', role: 'status' }, status),
      error && h('p', { className: 'carillon-error', role: 'alert' }, error.message),
      h(NotificationList));
  }

  const CHANNELS = [['in_app', 'In the app'], ['email', 'E-mail'], ['sms', 'Text message']];

  /** For each channel in general, and for each of `types` (`{chat: 'Chat', …}`): yes, no, or as the product has it. */
  function PreferencesForm({ types = {} }) {
    const { preferences, loadPreferences, setPreferences } = useNotifications();
    const [said, setSaid] = useState('');
    useEffect(() => {
      if (!preferences) attempt(loadPreferences());
    }, [preferences, loadPreferences]);
    const save = useCallback(async changes => {
      setSaid('');
      try {
        await setPreferences(changes);
        setSaid('Saved.');
      } catch (error) {
        setSaid(error.message);
      }
    }, [setPreferences]);
    const choice = (label, value, change) => h('label', { key: label }, h('span', null, label),
      h('select', { value: value === undefined ? '' : String(value), onChange: event => save(change(event.target.value === '' ? null : event.target.value === 'true')) },
        h('option', { value: '' }, 'Default'), h('option', { value: 'true' }, 'Yes'), h('option', { value: 'false' }, 'No')));
    if (!preferences) return h('p', { role: 'status' }, 'Loading…');
    return h('form', { className: 'carillon-preferences', onSubmit: event => event.preventDefault() },
      h('fieldset', null, h('legend', null, 'Everything'),
        CHANNELS.map(([name, label]) => choice(label, preferences.channels?.[name], value => ({ channels: { [name]: value } })))),
      Object.entries(types).map(([type, label]) => h('fieldset', { key: type }, h('legend', null, label),
        CHANNELS.map(([name, words]) => choice(words, preferences.types?.[type]?.channels?.[name], value => ({ types: { [type]: { channels: { [name]: value } } } }))))),
      h('p', { role: 'status' }, said));
  }

  /** Toasts without the hook. */
  function Toasts(settings) {
    useToasts(useCarillon(), true, settings);
    return null;
  }

  /** The bell, and behind it the centre. Escape closes it and gives the focus back. */
  function NotificationBell({ title }) {
    const [isOpen, setOpen] = useState(false);
    const place = useRef(null);
    const id = useId();
    const onKeyDown = event => {
      if (event.key !== 'Escape' || !isOpen) return;
      setOpen(false);
      place.current?.querySelector('.carillon-bell')?.focus();
    };
    return h('div', { className: 'carillon-place', ref: place, onKeyDown },
      h(Bell, { isOpen, controls: isOpen ? id : undefined, onClick: () => setOpen(now => !now) }),
      isOpen && h(NotificationCentre, { id, title }));
  }

  return { CarillonProvider, useCarillon, useNotifications, Bell, NotificationBell, NotificationCentre, NotificationList, PreferencesForm, Toasts };
}

// For pages that load React by a script of its own.
let bound = null;
const ofPage = () => {
  if (!bound && !globalThis.React) throw new Error('React is not on this page: use createCarillonReact(React), or import hooks.js.');
  return (bound ??= createCarillonReact(globalThis.React));
};
export const useNotifications = options => ofPage().useNotifications(options);
export const useCarillon = () => ofPage().useCarillon();
export const CarillonProvider = properties => ofPage().CarillonProvider(properties);
export const Bell = properties => ofPage().Bell(properties);
export const NotificationBell = properties => ofPage().NotificationBell(properties);
export const NotificationCentre = properties => ofPage().NotificationCentre(properties);
export const NotificationList = properties => ofPage().NotificationList(properties);
export const PreferencesForm = properties => ofPage().PreferencesForm(properties);
export const Toasts = properties => ofPage().Toasts(properties);
