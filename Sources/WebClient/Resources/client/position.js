// Positions are `<epoch>-<seq>`. The service calls them opaque; its own client compares them, to notice what is old and what is missing.

/** @returns {{epoch: number, seq: number} | null} */
export function parsePosition(text) {
  const match = /^(\d{1,15})-(\d{1,15})$/.exec(text ?? '');
  return match && { epoch: Number(match[1]), seq: Number(match[2]) };
}

/** Negative when `a` is before `b`, 0 when they are the same, positive when it is after. What is no position is before all others. */
export function comparePositions(a, b) {
  const [left, right] = [parsePosition(a), parsePosition(b)];
  if (!left || !right) return (left ? 1 : 0) - (right ? 1 : 0);
  return left.epoch - right.epoch || left.seq - right.seq;
}
