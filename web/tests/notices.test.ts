import { describe, expect, it } from 'vitest';
import { gatherEvictions, movesToLevel } from '../src/lib/model/evictions';
import { reading } from '../src/lib/model/instruments';
import { because, connectionWords, noticeOf } from '../src/lib/model/notices';
import type { StreamEvent } from '../src/lib/wire/messages';

const event = (kind: string, data: Record<string, unknown>): StreamEvent => ({ type: 'event', kind, data });

describe('notices', () => {
  it('names the chain and the reason of an eviction', () => {
    const told = noticeOf(event('evicted', { symbol: 'INFY', expiry: '26FEB2026', reason: 'evicted by TCS' }));
    expect(told).toEqual({ kind: 'bad', text: 'INFY 26FEB2026 was evicted by TCS' });
    expect(because('no room')).toBe(': no room');
    expect(because(null)).toBe(': room was needed');
  });

  it('names the connections that fail alike in one line', () => {
    expect(connectionWords([3], 'down: cut')).toBe('Upstream connection 3 is down: cut');
    expect(connectionWords([4, 1, 10], 'down')).toBe('Upstream connections 1, 4 and 10 are down');
  });

  it('does not say that lists were cleared before they are', () => {
    const soon = noticeOf(event('eod', { phase: 'soon', at: '2026-02-03T15:30:00+05:30', keeps_watchlists: false }));
    expect(soon?.text).toBe('End of day at 15:30: watchlists are cleared, on-demand chains leave');
    const kept = noticeOf(event('eod', { phase: 'soon', at: '2026-02-03T15:30:00+05:30', keeps_watchlists: true }));
    expect(kept?.text).toContain('lists are kept');
    expect(noticeOf(event('eod', { phase: 'done', released: 50 }))).toBeNull();
    expect(noticeOf(event('eod', { cleared: 3, kept: 0, released: 120 }))?.text).toBe(
      'End of day: 3 entries cleared, 120 instruments left',
    );
  });

  it('names the entries that rolled on', () => {
    const move = (symbol: string) => ({ symbol, from: '10FEB2026', to: '17FEB2026' });
    const rolled = ['NIFTY', 'SENSEX', 'TCS', 'INFY', 'SBIN', 'ITC'].map(move);
    expect(noticeOf(event('eod', { phase: 'rolled', rolled: rolled.slice(0, 1) }))?.text).toBe(
      'Over, and kept with the next expiry: NIFTY 10FEB2026 → 17FEB2026',
    );
    expect(noticeOf(event('eod', { phase: 'rolled', rolled }))?.text).toMatch(/INFY 10FEB2026 → 17FEB2026 and 2 more$/);
  });

  it('keeps quiet of what the badges tell', () => {
    expect(noticeOf(event('session', { exchange: 'NSE', phase: 'CLOSED' }))).toBeNull();
  });
});

describe('the audit log', () => {
  const leg = (id: number, token: string, reason: string) => ({ id, action: 'RATE_LIMIT_EVICT', instrument_token: token, reason, timestamp: `t${id}` });

  it('gathers the legs of a chain that gave way', () => {
    const log = [
      leg(3, 'SBIN_26FEB2026_800CE', 'evicted by TCS'),
      leg(2, 'INFY_26FEB2026_1600PE', 'evicted by SBIN'),
      leg(1, 'INFY_26FEB2026_1600CE', 'evicted by SBIN'),
    ];
    expect(gatherEvictions(log).map((one) => [one.name, one.expiry, one.legs, one.at])).toEqual([
      ['SBIN', '26FEB2026', 1, 't3'],
      ['INFY', '26FEB2026', 2, 't2'],
    ]);
  });

  it.each([
    [[1726, 1726, 1726, 1725, 1725], 0],
    [[10, 0], 5],
    [[3, 0, 0], 2],
    [[5000, 5000, 0, 0, 0], 6000],
    [[], 0],
  ])('counts the moves that level %j', (carried, moves) => expect(movesToLevel(carried)).toBe(moves));
});

it.each([
  ['NIFTY_01DEC2026_25000CE', 'NIFTY 25000 CE', 'option'],
  ['BSE:RELIANCE_26FEB2026_2640.5PE', 'RELIANCE 2640.5 PE', 'option'],
  ['GOLD_04DEC2026_FUT', 'GOLD FUT', 'future'],
  ['GOLD_FUT', 'GOLD FUT', 'future'],
  ['NIFTY_IDX', 'NIFTY', 'index'],
  ['RELIANCE_EQ', 'RELIANCE', 'cash'],
])('reads %s as %s', (token, name, kind) => expect(reading(token)).toMatchObject({ name, kind }));
