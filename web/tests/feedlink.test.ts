import { describe, expect, it } from 'vitest';
import { feedLink, type FeedFacts } from '../src/lib/model/feedlink';

const line = (state: string) => ({ active: state === 'up', state });
const LIVE: FeedFacts = {
  signedOut: false,
  stream: 'open',
  statusFresh: true,
  source: 'dhan',
  connections: [line('up'), line('down')],
  anyOpen: true,
  delayMs: 40,
  dataAgeMs: 300,
};

describe('the word for the feed', () => {
  const cases: [string, Partial<FeedFacts>, string][] = [
    ['live with its age', {}, 'LIVE 0.3 s'],
    ['never live without a sign-in', { signedOut: true }, 'SIGNED OUT'],
    ['never live without the stream', { stream: 'down' }, 'STREAM DOWN'],
    ['never live by an old status', { statusFresh: false }, 'WAITING'],
    ['off where nothing was asked for', { source: 'off', connections: [] }, 'FEED OFF'],
    ['starting before the first try is over', { connections: [line('starting'), line('starting')], anyOpen: false }, 'FEED STARTING'],
    ['down when no connection stands', { connections: [line('down'), line('stopped')] }, 'FEED DOWN'],
    ['down in a closed market too', { connections: [line('down')], anyOpen: false }, 'FEED DOWN'],
    ['a closed market is neither stale nor live', { anyOpen: false, dataAgeMs: 9e6 }, 'CONNECTED'],
    ['no data before the first packet', { dataAgeMs: Infinity }, 'NO DATA YET'],
    ['never live over a slow line', { delayMs: 7_400 }, 'DELAYED 7 s'],
    ['never live with prices that come late', { connections: [line('up'), { ...line('up'), late: true, lag_p50_ms: 12_010 }] }, 'FEED LATE 12 s'],
    ['stale in session', { dataAgeMs: 20_000 }, 'FEED STALE 20 s'],
  ];
  it.each(cases)('%s', (_what, facts, text) => {
    expect(feedLink({ ...LIVE, ...facts }).text).toBe(text);
  });
});
