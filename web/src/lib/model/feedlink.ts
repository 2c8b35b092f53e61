import type { ConnectionStatus } from '../wire/messages';
import { age } from './format';

/** In session, data older than this is called stale. */
const STALE_MS = 15_000;
/** A line with this delay is slow; less goes with any distance. */
const SLOW_MS = 2_000;

export interface FeedFacts {
  signedOut: boolean;
  /** The page's own stream. */
  stream: 'connecting' | 'open' | 'down';
  /** The status on hand came over the stream as it stands now. */
  statusFresh: boolean;
  /** Where the service takes its prices from; null until it was told. */
  source: string | null;
  /** The service's connections to the exchange feed. */
  connections: readonly Pick<ConnectionStatus, 'active' | 'state' | 'late' | 'lag_p50_ms'>[];
  anyOpen: boolean;
  /** How long the stream's answers take. */
  delayMs: number;
  /** Age of the newest packet; Infinity before the first. */
  dataAgeMs: number;
}

export interface FeedLink {
  text: string;
  tone: 'good' | 'warn' | 'bad' | 'plain';
  name: string;
  /** What a screen reader is told. */
  said: string;
}

/** The one word for whether the numbers on screen are live; the first reason that applies says why not. */
export function feedLink(facts: FeedFacts): FeedLink {
  const { stream, connections, delayMs, dataAgeMs } = facts;
  if (facts.signedOut) return { text: 'SIGNED OUT', tone: 'bad', name: 'signed-out', said: 'Signed out' };
  if (stream === 'connecting') return { text: 'CONNECTING', tone: 'bad', name: 'down', said: 'Connecting' };
  if (stream !== 'open') return { text: 'STREAM DOWN', tone: 'bad', name: 'down', said: 'Stream down' };
  if (!facts.statusFresh) return { text: 'WAITING', tone: 'warn', name: 'waiting', said: 'Waiting for the service' };
  if (facts.source === 'off') return { text: 'FEED OFF', tone: 'warn', name: 'off', said: 'Feed off' };
  if (!connections.some((one) => one.active)) {
    return connections.some((one) => one.state === 'starting')
      ? { text: 'FEED STARTING', tone: 'warn', name: 'starting', said: 'Feed starting' }
      : { text: 'FEED DOWN', tone: 'bad', name: 'feed-down', said: 'Feed down' };
  }
  if (!facts.anyOpen) return { text: 'CONNECTED', tone: 'plain', name: 'closed', said: 'Connected, markets closed' };
  if (delayMs > SLOW_MS) return { text: `DELAYED ${age(delayMs)}`, tone: 'warn', name: 'delayed', said: 'Delayed by a slow line' };
  if (dataAgeMs === Infinity) return { text: 'NO DATA YET', tone: 'warn', name: 'stale', said: 'No data yet' };
  if (dataAgeMs > STALE_MS) return { text: `FEED STALE ${age(dataAgeMs)}`, tone: 'warn', name: 'stale', said: 'Feed stale' };
  const lateMs = Math.max(0, ...connections.map((one) => (one.late ? (one.lag_p50_ms ?? 0) : 0)));
  if (lateMs) return { text: `FEED LATE ${age(lateMs)}`, tone: 'warn', name: 'late', said: 'Feed late' };
  return { text: `LIVE ${age(dataAgeMs)}`, tone: 'good', name: 'live', said: 'Feed live' };
}
