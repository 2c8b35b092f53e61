/** States of an instrument, in the service's order (contract 5.8); the index is what the typed store keeps. */
export const STATES = [
  'EXPIRED',
  'EVICTED',
  'NOT_SUBSCRIBED',
  'WANTED',
  'SENT',
  'CLOSED',
  'GAP',
  'STALE',
  'QUIET',
  'LIVE',
] as const;

export type StateName = (typeof STATES)[number];

/** No state was told yet: shown like an unknown number, never like a live one. */
export const STATE_UNKNOWN = 255;

export const LIVE = STATES.indexOf('LIVE');
export const QUIET = STATES.indexOf('QUIET');
export const STALE = STATES.indexOf('STALE');
export const GAP = STATES.indexOf('GAP');
export const CLOSED = STATES.indexOf('CLOSED');

const CODES = new Map<string, number>(STATES.map((name, code) => [name, code]));

export function stateCode(name: string | null | undefined): number {
  return name == null ? STATE_UNKNOWN : (CODES.get(name) ?? STATE_UNKNOWN);
}

export function stateName(code: number): StateName | null {
  return STATES[code] ?? null;
}

/** One line a person can read; the long answer comes from the service. */
export const STATE_WORDS: Record<StateName, string> = {
  EXPIRED: 'Expired: this contract is over',
  EVICTED: 'Evicted: room was needed for another chain',
  NOT_SUBSCRIBED: 'Not subscribed: nobody has added this chain',
  WANTED: 'Waiting to be sent to the exchange feed',
  SENT: 'Asked for; no packet yet (it may not have traded today)',
  CLOSED: 'Session is over; last value of the session',
  GAP: 'The connection was cut since this value; not current',
  STALE: 'Stale: older than is usual for this instrument',
  QUIET: 'Quiet: no packet lately, which is normal for it',
  LIVE: 'Live',
};

/** The value is older than it looks: dimmed on screen. */
export function isOld(code: number): boolean {
  return code === STALE || code === GAP || code < CLOSED || code === STATE_UNKNOWN;
}
