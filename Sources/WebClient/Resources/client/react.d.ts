import type { Client, Filter, Options, PreferenceChanges, Preferences, State } from './carillon.js';

export interface Notifications extends State {
  markRead: Client['markRead'];
  markUnread: Client['markUnread'];
  markAllRead: Client['markAllRead'];
  markSeen: Client['markSeen'];
  archive: Client['archive'];
  unarchive: Client['unarchive'];
  remove: Client['remove'];
  loadMore: Client['loadMore'];
  setFilter(filter: Filter): Promise<void>;
  loadPreferences(): Promise<Preferences>;
  setPreferences(changes: PreferenceChanges): Promise<Preferences>;
}

type Component<Properties> = (properties: Properties) => any;

export interface CarillonReact {
  CarillonProvider: Component<{ client?: Client; options?: Options; children?: any }>;
  useCarillon(): Client;
  useNotifications(options?: { toasts?: boolean | { seconds?: number } }): Notifications;
  Bell: Component<{ isOpen?: boolean; controls?: string; onClick?: () => void; label?: string }>;
  NotificationBell: Component<{ title?: string }>;
  NotificationCentre: Component<{ id?: string; title?: string }>;
  NotificationList: Component<{}>;
  PreferencesForm: Component<{ types?: Record<string, string> }>;
  Toasts: Component<{ seconds?: number }>;
}

export function createCarillonReact(React: unknown): CarillonReact;
export const CarillonProvider: CarillonReact['CarillonProvider'];
export const useCarillon: CarillonReact['useCarillon'];
export const useNotifications: CarillonReact['useNotifications'];
export const Bell: CarillonReact['Bell'];
export const NotificationBell: CarillonReact['NotificationBell'];
export const NotificationCentre: CarillonReact['NotificationCentre'];
export const NotificationList: CarillonReact['NotificationList'];
export const PreferencesForm: CarillonReact['PreferencesForm'];
export const Toasts: CarillonReact['Toasts'];
