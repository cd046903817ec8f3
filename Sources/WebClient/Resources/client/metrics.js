// The Prometheus text format, as far as the console needs it.

/** Values by name, labels included: `name{le="0.1"}`. */
export function parseMetrics(text) {
  const values = new Map();
  for (const line of text.split('\n')) {
    const match = /^([a-zA-Z_:][\w:]*(?:\{[^}]*\})?) (\S+)/.exec(line);
    if (match) values.set(match[1], Number(match[2]));
  }
  return values;
}

/**
 * Below what that part of what was counted between two readings lies, in proportion within its bucket; null when nothing was counted. What is past the
 * last bound is told as that bound.
 */
export function percentile(name, part, now, before) {
  const buckets = [];
  for (const [key, value] of now) {
    const bound = key.startsWith(`${name}_bucket{`) && /le="([^"]+)"/.exec(key)?.[1];
    if (bound) buckets.push({ bound: bound === '+Inf' ? Infinity : Number(bound), count: value - (before?.get(key) ?? 0) });
  }
  buckets.sort((a, b) => a.bound - b.bound);
  const total = buckets.at(-1)?.count ?? 0;
  if (!(total > 0)) return null;
  const wanted = total * part;
  const index = buckets.findIndex(bucket => bucket.count >= wanted);
  const [lower, upper] = [buckets[index - 1] ?? { bound: 0, count: 0 }, buckets[index]];
  if (!Number.isFinite(upper.bound)) return lower.bound;
  return lower.bound + (upper.bound - lower.bound) * ((wanted - lower.count) / (upper.count - lower.count));
}
