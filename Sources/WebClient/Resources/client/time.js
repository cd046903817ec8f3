const UNITS = [['year', 31_536_000], ['month', 2_592_000], ['week', 604_800], ['day', 86_400], ['hour', 3_600], ['minute', 60]];

/** How long ago, in the page's language: "5 minutes ago". */
export function ago(text, now = Date.now(), language = document.documentElement.lang || undefined) {
  const format = new Intl.RelativeTimeFormat(language, { numeric: 'auto' });
  const seconds = Math.round((Date.parse(text) - now) / 1000);
  const [unit, size] = UNITS.find(([, size]) => Math.abs(seconds) >= size) ?? ['second', 1];
  return Math.abs(seconds) < 5 ? format.format(0, 'second') : format.format(Math.round(seconds / size), unit);
}
