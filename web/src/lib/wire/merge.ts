type Doc = Record<string, unknown>;

const isDoc = (value: unknown): value is Doc => typeof value === 'object' && value !== null && !Array.isArray(value);

/** A delta's part outside the rows: members replace, objects merge, and what is gone is null. */
export function mergeDoc<T>(held: T | null | undefined, change: unknown): T {
  if (!isDoc(held) || !isDoc(change)) return change as T;
  const merged: Doc = { ...(held as Doc) };
  for (const [name, value] of Object.entries(change)) merged[name] = mergeDoc(merged[name], value);
  return merged as T;
}
