import { comparePositions, parsePosition } from './position.js';

// What is known of the inbox, without I/O: what the service has said (`items`, in order, and the counts, all at `position`), and over it what was
// asked for and is not yet on the stream (`pending`). An action shows at once, is taken back when it fails, and is dropped when the stream has passed
// the number of its change: by then what the service says includes it.

const MOST_PENDING = 500;

export class Inbox {
  /** Of what the service has said. */
  position = null;
  /** For the next page; null when there is none, or none is known. */
  cursor = null;
  #items = [];
  #byID = new Map();
  /** The number under which an item was created, where this is known. */
  #born = new Map();
  #unread = 0;
  #unseen = 0;
  #pending = [];
  #most;
  /** Older ones fell out of memory, so that the cursor no longer continues the list. */
  #isCut = false;
  #filter = {};
  #view = null;

  constructor(most) {
    this.#most = most;
  }

  // MARK: What the service says

  /** The first page, in place of all that was there. */
  loaded(page, filter) {
    this.#filter = filter;
    this.#items = [];
    this.#byID.clear();
    this.#born.clear();
    this.#isCut = false;
    this.#add(page.data);
    this.cursor = page.page.next;
    this.#unread = page.unread;
    this.#unseen = page.unseen;
    this.#moveTo(page.last_event_id);
  }

  /** How to ask for what comes after the last item; null when there is no more, or no room. */
  get nextPage() {
    if (this.#items.length >= this.#most) return null;
    if (this.#isCut) return { offset: Math.max(0, this.#items.length - 3) };
    return this.cursor ? { after: this.cursor } : null;
  }

  /** @returns whether it continues the list; when not, the list is to be loaded anew. */
  loadedMore(page, asked) {
    this.#view = null;
    if ('offset' in asked && this.#items.length && !page.data.some(item => this.#byID.has(item.id))) return false;
    this.#isCut = false;
    this.cursor = page.page.next;
    this.#add(page.data);
    return true;
  }

  /** A count that was asked for on its own. @returns whether it is of this very position; one of another says nothing. */
  counted({ unread, unseen, last_event_id }) {
    if (comparePositions(last_event_id, this.position) !== 0) return false;
    this.#unread = unread;
    this.#unseen = unseen;
    this.#view = null;
    return true;
  }

  /**
   * The next change. Answers what is to be done: `fresh` is a notification that nobody has seen yet; `count`: ask for the counts; `reload`: for the list.
   */
  apply({ event, id, data }) {
    const todo = {};
    if (event === 'message') {
      if (!this.#byID.has(data.id)) todo.fresh = stripped(data);
      this.#born.set(data.id, data.seq);
      this.#put(stripped(data), true);
      if (!data.seen) this.#unseen += 1;
    } else if (event === 'update' && data.all) {
      // A token that sees some customers marks each of them on its own; null are those of none.
      const { customer_id } = data;
      this.#items = this.#items.map(item => (item.seen || (customer_id !== undefined && item.customer_id !== customer_id) ? item : this.#keep({ ...item, seen: true })));
      this.#unseen = data.unseen;
    } else if (event === 'update') {
      const before = this.#byID.get(data.id);
      if (!before) todo.count = true;
      else if (before.seen !== data.seen) this.#unseen += data.seen ? -1 : 1;
      this.#put(stripped(data), false);
    } else if (event === 'delete') {
      const before = this.#byID.get(data.id);
      if (!before) todo.count = true;
      else if (!before.seen) this.#unseen -= 1;
      this.#drop(data.id);
    } else if (event === 'read_all') {
      Object.assign(todo, this.#readAll(data));
    }
    if (data && 'unread' in data) this.#unread = data.unread;
    this.#moveTo(id);
    return todo;
  }

  #readAll({ seq, customer_id, type, up_to_seq }) {
    const todo = {};
    const isWhole = customer_id === undefined && type === undefined && up_to_seq === undefined;
    this.#items = this.#items.map(item => {
      if ((item.read && item.seen) || item.seq > seq) return item;
      if ((customer_id !== undefined && item.customer_id !== customer_id) || (type !== undefined && item.type !== type)) return item;
      if (up_to_seq !== undefined) {
        const born = this.#born.get(item.id);
        if (born === undefined && item.seq > up_to_seq) todo.reload = true;
        if ((born ?? item.seq) > up_to_seq) return item;
      }
      return this.#keep({ ...item, read: true, read_at: item.read_at ?? new Date().toISOString(), seen: true });
    });
    if (isWhole) this.#unseen = 0;
    else todo.count = true;
    this.#items = this.#items.filter(item => matches(item, this.#filter) || this.#forget(item.id));
    return todo;
  }

  #moveTo(position) {
    this.#view = null;
    if (position) this.position = position;
    const here = parsePosition(this.position);
    this.#pending = this.#pending.filter(action => {
      if (!action.isConfirmed) return true;
      if (action.kind === 'remove') return this.#byID.has(action.id);
      const there = action.position && parsePosition(action.position);
      if (there && here && there.epoch !== here.epoch) return false;
      return !(here && action.seq <= here.seq);
    });
  }

  // MARK: The list

  #keep(item) {
    this.#byID.set(item.id, item);
    return item;
  }

  /** For `filter`: false, so that the item goes. */
  #forget(id) {
    this.#byID.delete(id);
    this.#born.delete(id);
    return false;
  }

  #drop(id) {
    if (this.#byID.has(id)) this.#items = this.#items.filter(item => item.id !== id || this.#forget(id));
  }

  #add(items) {
    // Another array, so that the view is another one.
    this.#items = this.#items.slice();
    for (const item of items) {
      const before = this.#byID.get(item.id);
      if (!before) this.#items.push(this.#keep(item));
      else if (item.seq > before.seq) this.#items[this.#items.indexOf(before)] = this.#keep(item);
    }
    this.#cut();
  }

  #put(item, isNew) {
    const before = this.#byID.get(item.id);
    if (before && before.seq > item.seq) return;
    if (!matches(item, this.#filter)) return this.#drop(item.id);
    if (before) {
      this.#items = this.#items.map(other => (other.id === item.id ? this.#keep(item) : other));
      return;
    }
    // One that comes back, from the archive say, has its place by time; past the last one it belongs to a page that is not loaded.
    const place = isNew ? 0 : this.#items.findIndex(other => other.created_at < item.created_at);
    if (place < 0 && (this.cursor || this.#isCut)) return;
    this.#items = this.#items.slice();
    this.#items.splice(place < 0 ? this.#items.length : place, 0, this.#keep(item));
    this.#cut();
  }

  #cut() {
    if (this.#items.length <= this.#most) return;
    for (const item of this.#items.slice(this.#most)) this.#forget(item.id);
    this.#items = this.#items.slice(0, this.#most);
    this.#isCut = true;
  }

  // MARK: Actions

  get(id) {
    return this.#byID.get(id) ?? null;
  }

  /** Shows an action before the service has heard of it: `{kind: 'patch', id, fields}`, `{kind: 'remove', id}`, `{kind: 'readAll', filter}`, `{kind: 'seen'}`. */
  begin(action) {
    this.#view = null;
    const entry = { ...action, at: parsePosition(this.position)?.seq ?? 0, isConfirmed: false };
    this.#pending.push(entry);
    if (this.#pending.length > MOST_PENDING) {
      const oldest = this.#pending.find(other => other.isConfirmed);
      if (oldest) this.fail(oldest);
    }
    return entry;
  }

  /** The service did it: as the change of that number, or position. What is neither goes with its item. */
  confirm(action, { seq, position } = {}) {
    action.isConfirmed = true;
    action.position = position;
    action.seq = seq ?? parsePosition(position)?.seq ?? 0;
    this.#moveTo(null);
  }

  /** The service did not do it. */
  fail(action) {
    this.#view = null;
    this.#pending = this.#pending.filter(other => other !== action);
  }

  // MARK: The view

  /** What is to be seen. The same objects as before where nothing has changed. */
  get view() {
    return (this.#view ??= this.#makeView());
  }

  #makeView() {
    let [notifications, unread, unseen] = [this.#items, this.#unread, this.#unseen];
    if (this.#pending.length) {
      notifications = [];
      for (const item of this.#items) {
        const shown = this.#pending.reduce((shown, action) => shown && this.#acted(shown, action), item);
        unread += (shown && !shown.read ? 1 : 0) - (item.read ? 0 : 1);
        unseen += (shown && !shown.seen ? 1 : 0) - (item.seen ? 0 : 1);
        if (shown && matches(shown, this.#filter)) notifications.push(shown);
      }
      // What they do goes beyond the items that are here.
      for (const action of this.#pending) {
        const later = item => (this.#born.get(item.id) ?? 0) > action.at;
        if (action.kind === 'readAll' && !Object.keys(action.filter).length) unread = notifications.filter(item => !item.read && later(item)).length;
        if (action.kind === 'seen' || (action.kind === 'readAll' && !Object.keys(action.filter).length)) unseen = notifications.filter(item => !item.seen && later(item)).length;
      }
    }
    return { notifications, unread: Math.max(0, unread), unseen: Math.max(0, unseen), hasMore: this.nextPage !== null };
  }

  #acted(item, action) {
    if (action.kind === 'patch') return action.id === item.id ? changed(item, action.fields) : item;
    if (action.kind === 'remove') return action.id === item.id ? null : item;
    if ((this.#born.get(item.id) ?? 0) > action.at) return item;
    if (action.kind === 'seen') return item.seen ? item : { ...item, seen: true };
    const { type, customer_id } = action.filter;
    if ((type !== undefined && item.type !== type) || (customer_id !== undefined && item.customer_id !== customer_id)) return item;
    return item.read ? item : changed(item, { read: true });
  }
}

/** Reading implies seen; archiving implies read. */
function changed(item, { read, seen, archived }) {
  const now = { ...item };
  if (archived !== undefined) now.archived = archived;
  if (archived) read = true;
  if (read !== undefined && read !== item.read) [now.read, now.read_at] = [read, read ? new Date().toISOString() : null];
  if (read || seen !== undefined) now.seen = read || seen;
  return now;
}

function matches(item, filter) {
  if ((filter.status === 'unread' && item.read) || (filter.status === 'read' && !item.read)) return false;
  if (filter.archived !== 'all' && item.archived !== (filter.archived === true || filter.archived === 'true')) return false;
  return ['type', 'event', 'level', 'priority', 'customer_id'].every(name => !filter[name] || item[name] === filter[name]);
}

/** Without the count that travels with it. */
function stripped({ unread, ...item }) {
  return item;
}
