/** The link as it may stand in a page: http, https, mailto, or of this site; null for anything else. */
export function safeLink(text) {
  if (typeof text !== 'string') return null;
  // What the URL parser takes out (WHATWG URL, 4.4) must not hide a scheme from this check.
  const link = text.replace(/[\t\n\r]/g, '').trim();
  if (/^\/(?![/\\])/.test(link)) return link;
  if (!/^(?:https?:\/\/|mailto:)/i.test(link)) return null;
  try {
    const url = new URL(link);
    return ['http:', 'https:', 'mailto:'].includes(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}
