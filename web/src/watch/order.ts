/** A list after the item at `from` went to `to`; the ends hold. */
export function moved<T>(items: readonly T[], from: number, to: number): T[] {
  const rest = [...items];
  const [item] = rest.splice(from, 1);
  if (item !== undefined) rest.splice(Math.max(0, Math.min(rest.length, to)), 0, item);
  return rest;
}
