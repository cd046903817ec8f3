/** An RFC 3339 time in UTC. */
export type Time = string;

export interface Notification {
  id: string;
  /** The number of the last change that named it. */
  seq: number;
  type: string;
  event: string | null;
  level: 'INFO' | 'SUCCESS' | 'WARNING' | 'ERROR';
  priority: 'LOW' | 'MEDIUM' | 'HIGH' | 'URGENT';
  title: string;
  content: string | null;
  /** Use `safeLink` before it becomes an `href`. */
  link_url: string | null;
  link_text: string | null;
  customer_id: string | null;
  rec_type: string | null;
  rec_id: string | null;
  data: Record<string, unknown> | null;
  read: boolean;
  read_at: Time | null;
  seen: boolean;
  archived: boolean;
  created_at: Time;
  expires_at: Time | null;
}

/** What arrives: a notification, or a direct event, which is in no list. */
export type Arrival = Notification | (Partial<Notification> & { id: string; title: string; ephemeral: true });

export type Channel = 'in_app' | 'email' | 'sms' | 'telegram';
export type Channels = Partial<Record<Channel, boolean>>;

export interface Preferences {
  channels?: Channels;
  types?: Record<string, { channels?: Channels; events?: Record<string, Channels> }>;
  quiet_hours?: { start: string; end: string; timezone: string };
  digest?: { email: 'immediate' | 'hourly' | 'daily' };
}

/** Merged into what is stored (RFC 7396): null takes a word back. */
export type PreferenceChanges = { [Key in keyof Preferences]?: unknown };

export interface Filter {
  status?: 'unread' | 'read' | 'all';
  archived?: boolean | 'all';
  type?: string;
  event?: string;
  level?: Notification['level'];
  priority?: Notification['priority'];
  customer_id?: string;
}

/**
 * `open`: the stream is. `polling`: asked by long-poll, since something holds streams back. `evicted`: the user has too many streams open; it goes on when
 * this page is looked at again.
 */
export type Status = 'connecting' | 'open' | 'polling' | 'reconnecting' | 'offline' | 'evicted' | 'closed';

export interface State {
  readonly notifications: readonly Notification[];
  readonly unread: number;
  readonly unseen: number;
  readonly status: Status;
  /** What failed last; null once it works again. */
  readonly error: CarillonError | null;
  readonly hasMore: boolean;
  readonly isLoaded: boolean;
  readonly filter: Filter;
  /** Null until they have been asked for. */
  readonly preferences: Preferences | null;
}

export interface Options {
  /** Called whenever a fresh token is needed. Absent: the cookie is the credential. */
  token?: () => string | Promise<string>;
  /** Where the service is; by default where the page is from. */
  url?: string;
  /** Names the inbox where no token does: tabs with the same name share a stream. */
  user?: string;
  filter?: Filter;
  /** Narrows the list and the stream to one customer. */
  customer?: string;
  /** 1 to 200, 50 by default. */
  pageSize?: number;
  /** Notifications in memory, 1,000 by default. */
  maximum?: number;
  /** False: this tab has a stream of its own. */
  shared?: boolean;
}

export class CarillonError extends Error {
  /** 0: no answer. */
  readonly status: number;
  /** `notifications_m.not_found`, for example. */
  readonly code: string | null;
  readonly errors: { pointer: string; detail: string }[];
  /** Milliseconds. */
  readonly retryAfter: number | null;
}

export interface Client {
  getState(): State;
  subscribe(listener: (state: State) => void): () => void;
  onNotification(listener: (notification: Arrival) => void): () => void;
  markRead(id: string): Promise<void>;
  markUnread(id: string): Promise<void>;
  markAllRead(filter?: { type?: string; customer_id?: string }): Promise<void>;
  markSeen(): Promise<void>;
  archive(id: string): Promise<void>;
  unarchive(id: string): Promise<void>;
  remove(id: string): Promise<void>;
  loadMore(): Promise<void>;
  setFilter(filter: Filter): Promise<void>;
  reload(): Promise<void>;
  readonly preferences: {
    get(): Promise<Preferences>;
    set(changes: PreferenceChanges): Promise<Preferences>;
  };
  /** Whether this tab holds the stream. */
  readonly leads: boolean;
  close(): void;
}

export function connect(options?: Options): Client;
export function currentClient(): Client | null;
/** The link if it is http, https, mailto or of this site; else null. */
export function safeLink(link: unknown): string | null;
/** Of toasts.js. */
export function showToasts(
  client: Client, settings?: { seconds?: number; parent?: Element; onOpen?: (notification: Arrival, event: Event) => void },
): () => void;
