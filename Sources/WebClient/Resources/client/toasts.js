import { safeLink } from './links.js';

// Short notes of what has just arrived, in a live region (WAI-ARIA 1.2, 6.6.4). Plain DOM, so that they need no framework; carillon.css dresses them.

const MOST = 4;

/**
 * Shows each notification that arrives at the client, for `seconds`; one that has the pointer or the focus stays. Urgent ones and errors are
 * announced at once (`role="alert"`), the others when the reader pauses.
 *
 * @returns the function that ends it.
 */
export function showToasts(client, { seconds = 6, parent = document.body, onOpen } = {}) {
  const region = document.createElement('section');
  region.className = 'carillon-toasts';
  region.setAttribute('aria-label', 'New notifications');
  // A region must be there before what it announces.
  const [polite, urgent] = ['polite', 'assertive'].map(manner => {
    const list = document.createElement('div');
    list.setAttribute('aria-live', manner);
    list.setAttribute('aria-relevant', 'additions');
    region.append(list);
    return list;
  });
  parent.append(region);
  const timers = new Map();

  const close = toast => {
    clearTimeout(timers.get(toast));
    timers.delete(toast);
    toast.remove();
  };
  const start = toast => {
    clearTimeout(timers.get(toast));
    timers.set(toast, setTimeout(() => close(toast), seconds * 1000));
  };
  const show = notification => {
    const toast = document.createElement('div');
    toast.className = 'carillon-toast';
    toast.dataset.level = notification.level;
    const title = document.createElement('strong');
    title.textContent = notification.title;
    const text = document.createElement('p');
    text.textContent = notification.content ?? '';
    const actions = document.createElement('div');
    const href = safeLink(notification.link_url);
    if (href) {
      const link = document.createElement('a');
      link.href = href;
      link.textContent = notification.link_text || 'Open';
      link.addEventListener('click', event => {
        onOpen?.(notification, event);
        if (!notification.ephemeral) client.markRead(notification.id).catch(() => {}); // The state has the error.
        close(toast);
      });
      actions.append(link);
    }
    const button = document.createElement('button');
    button.type = 'button';
    button.textContent = 'Dismiss';
    button.setAttribute('aria-label', `Dismiss: ${notification.title}`);
    button.addEventListener('click', () => close(toast));
    actions.append(button);
    toast.append(title, ...(notification.content ? [text] : []), actions);
    for (const name of ['pointerenter', 'focusin']) toast.addEventListener(name, () => clearTimeout(timers.get(toast)));
    for (const name of ['pointerleave', 'focusout']) toast.addEventListener(name, () => toast.isConnected && start(toast));
    const list = notification.priority === 'URGENT' || notification.level === 'ERROR' ? urgent : polite;
    list.append(toast);
    start(toast);
    while (timers.size > MOST) close(timers.keys().next().value);
  };
  const stop = client.onNotification(show);
  return () => {
    stop();
    for (const toast of [...timers.keys()]) close(toast);
    region.remove();
  };
}
