import { beforeEach, describe, expect, it } from 'vitest';
import type { StreamEvent } from '../src/lib/wire/messages';
import { StreamClient, type Link, type Socket, type Timers } from '../src/lib/wire/stream';

class FakeSocket implements Socket {
  binaryType = '';
  protocol = '';
  onopen: (() => void) | null = null;
  onmessage: ((event: { data: unknown }) => void) | null = null;
  onclose: ((event: { code: number }) => void) | null = null;
  sent: Record<string, unknown>[] = [];
  closed = false;
  send(text: string): void {
    this.sent.push(JSON.parse(text));
  }
  close(): void {
    this.closed = true;
  }
  say(message: object): void {
    this.onmessage?.({ data: JSON.stringify(message) });
  }
  take(): Record<string, unknown>[] {
    return this.sent.splice(0);
  }
}

class FakeTimers implements Timers {
  at = 0;
  private next = 1;
  private waiting = new Map<number, { due: number; run: () => void }>();
  set(run: () => void, ms: number): number {
    this.waiting.set(this.next, { due: this.at + ms, run });
    return this.next++;
  }
  clear(id: number): void {
    this.waiting.delete(id);
  }
  now(): number {
    return this.at;
  }
  random(): number {
    return 0.5;
  }
  advance(ms: number): void {
    const end = this.at + ms;
    for (;;) {
      const due = [...this.waiting].filter(([, one]) => one.due <= end).sort((a, b) => a[1].due - b[1].due)[0];
      if (!due) break;
      this.at = due[1].due;
      this.waiting.delete(due[0]);
      due[1].run();
    }
    this.at = end;
  }
}

let sockets: FakeSocket[];
let timers: FakeTimers;
let links: Link[];
let events: StreamEvent[];
let refused: number;
let unread: string[];
let delays: number[];
let token: string | null;
let client: StreamClient;

const last = () => sockets.at(-1)!;
const snapshot = (topic: string, seq: number, data: unknown = {}) => ({ type: 'snapshot', topic, seq, at_ms: 1, data });
const delta = (topic: string, seq: number, data: unknown = {}) => ({ type: 'delta', topic, seq, at_ms: 1, data });

class Reader {
  got: [string, unknown][] = [];
  losses = 0;
  snapshot(data: unknown): void {
    this.got.push(['snapshot', data]);
  }
  delta(data: unknown): void {
    this.got.push(['delta', data]);
  }
  lost(): void {
    this.losses++;
  }
  refused = (error: { code: string }): void => {
    this.got.push(['refused', error.code]);
  };
}

beforeEach(() => {
  sockets = [];
  timers = new FakeTimers();
  links = [];
  events = [];
  refused = 0;
  unread = [];
  delays = [];
  token = null;
  client = new StreamClient(
    () => {
      sockets.push(new FakeSocket());
      return last();
    },
    {
      link: (state) => links.push(state),
      event: (event) => events.push(event),
      heard: () => {},
      delay: (ms) => delays.push(ms),
      unauthenticated: () => refused++,
      unreadable: (why) => unread.push(why),
    },
    timers,
    () => token,
  );
});

function opened(): FakeSocket {
  client.start();
  last().onopen!();
  return last();
}

describe('topics', () => {
  it('asks on opening and delivers snapshot, then deltas in order', () => {
    const reader = new Reader();
    client.subscribe('status', reader, 1);
    const socket = opened();
    expect(socket.take()).toEqual([{ op: 'subscribe', topics: ['status'], max_rate_hz: 1 }]);
    socket.say(delta('status', 5));
    expect(reader.got).toEqual([]);
    socket.say(snapshot('status', 5, 'a'));
    socket.say(delta('status', 6, 'b'));
    socket.say(delta('status', 6, 'again'));
    expect(reader.got).toEqual([
      ['snapshot', 'a'],
      ['delta', 'b'],
    ]);
  });

  it('shares one subscription and gives it up with the last reader', () => {
    const socket = opened();
    const leave = client.subscribe('status', new Reader());
    const leaveToo = client.subscribe('status', new Reader());
    socket.take();
    leave();
    expect(socket.take()).toEqual([]);
    leaveToo();
    leaveToo();
    expect(socket.take()).toEqual([{ op: 'unsubscribe', topics: ['status'] }]);
  });

  it('resumes over a gap and takes nothing that does not follow', () => {
    const reader = new Reader();
    client.subscribe('q', reader);
    const socket = opened();
    socket.say(snapshot('q', 1));
    socket.take();
    socket.say(delta('q', 3, 'early'));
    socket.say(delta('q', 4, 'early'));
    expect(socket.take()).toEqual([{ op: 'resume', topic: 'q', seq: 1, max_rate_hz: 5 }]);
    expect(reader.losses).toBe(1);
    socket.say(delta('q', 2, 'missing'));
    socket.say(delta('q', 3, 'then'));
    expect(reader.got.map(([, data]) => data)).toEqual([{}, 'missing', 'then']);
  });

  it('takes the whole when the seq is not known there any more', () => {
    const reader = new Reader();
    client.subscribe('q', reader);
    const socket = opened();
    socket.say(snapshot('q', 1));
    socket.say(delta('q', 9));
    socket.take();
    socket.say({ type: 'error', code: 'SEQ_UNKNOWN', topic: 'q' });
    expect(socket.take()).toEqual([{ op: 'subscribe', topics: ['q'], max_rate_hz: 5 }]);
  });

  it('tells a reader why its topic was refused', () => {
    const reader = new Reader();
    client.subscribe('chain:NO:26FEB2026', reader);
    opened().say({ type: 'error', code: 'INSTRUMENT_UNKNOWN', topic: 'chain:NO:26FEB2026' });
    expect(reader.got).toEqual([['refused', 'INSTRUMENT_UNKNOWN']]);
  });

  it('asks again for what was more than the service takes at once', () => {
    client.subscribe('q', new Reader());
    client.subscribe('late', new Reader());
    const socket = opened();
    socket.say(snapshot('q', 1));
    socket.take();
    socket.say({ type: 'error', code: 'RATE_LIMITED' });
    socket.say({ type: 'error', code: 'RATE_LIMITED' });
    timers.advance(1_100);
    expect(socket.take()).toEqual([{ op: 'subscribe', topics: ['late'], max_rate_hz: 5 }]);
    socket.say(snapshot('late', 1));
    timers.advance(2_000);
    expect(socket.take()).toEqual([{ op: 'ping' }]);
  });

  it('gives events on', () => {
    opened().say({ type: 'event', kind: 'evicted', data: { symbol: 'X' } });
    expect(events.map((event) => event.kind)).toEqual(['evicted']);
  });
});

describe('connection', () => {
  it('comes back by itself and resumes where it stood', () => {
    const reader = new Reader();
    client.subscribe('q', reader);
    const socket = opened();
    socket.say(snapshot('q', 7));
    socket.onclose!({ code: 1006 });
    expect(reader.losses).toBe(1);
    expect(links.at(-1)).toBe('down');
    timers.advance(400);
    last().onopen!();
    expect(sockets).toHaveLength(2);
    expect(last().take()).toEqual([{ op: 'resume', topic: 'q', seq: 7, max_rate_hz: 5 }]);
  });

  it('waits longer from failure to failure, and at most ten seconds', () => {
    client.start();
    const waits: number[] = [];
    for (let i = 0; i < 8; i++) {
      const before = timers.at;
      last().onclose!({ code: 1006 });
      const made = sockets.length;
      while (sockets.length === made) timers.advance(10);
      waits.push(timers.at - before);
    }
    expect(waits[0]).toBeLessThan(300);
    expect(waits[4]!).toBeGreaterThan(waits[1]!);
    expect(Math.max(...waits)).toBeLessThanOrEqual(10_060);
  });

  it('does not take silence for life', () => {
    const socket = opened();
    timers.advance(5_100);
    expect(socket.take()).toEqual([{ op: 'ping' }]);
    expect(delays.at(-1)).toBe(3_000);
    timers.advance(6_000);
    expect(socket.closed).toBe(true);
    expect(links.at(-1)).not.toBe('open');
  });

  it('measures how old what arrives is by how long an answer takes', () => {
    const socket = opened();
    timers.advance(2_000);
    expect(socket.take()).toEqual([{ op: 'ping' }]);
    for (let i = 0; i < 5; i++) {
      timers.advance(1_000);
      socket.say({ type: 'delta', topic: 'other', seq: 1, at_ms: 1, data: {} }); // a slow line is not a silent one
    }
    expect(socket.take()).toEqual([]);
    expect(delays.at(-1)).toBe(5_000);
    socket.say({ type: 'pong', at_ms: 1 });
    timers.advance(2_000);
    expect(socket.take()).toEqual([{ op: 'ping' }]);
    timers.advance(30);
    socket.say({ type: 'pong', at_ms: 1 });
    expect(delays.at(-1)).toBe(30);
  });

  it('knows of no delay on a new connection', () => {
    const socket = opened();
    timers.advance(5_000);
    expect(delays.at(-1)).toBe(3_000);
    socket.onclose!({ code: 1006 });
    timers.advance(400);
    expect(sockets).toHaveLength(2);
    expect(delays.at(-1)).toBe(0);
  });

  it('waits for no answer to a ping that was refused or lost', () => {
    const socket = opened();
    timers.advance(2_000);
    socket.say({ type: 'error', code: 'RATE_LIMITED' });
    socket.take();
    timers.advance(2_000);
    expect(socket.take()).toEqual([{ op: 'ping' }]);
    for (let i = 0; i < 34; i++) {
      timers.advance(1_000);
      socket.say({ type: 'delta', topic: 'other', seq: 1, at_ms: 1, data: {} });
    }
    expect(socket.take()).toEqual([{ op: 'ping' }]);
  });

  it('says what it cannot read and starts again with a new connection', () => {
    const reader = new Reader();
    client.subscribe('q', reader);
    const socket = opened();
    socket.onmessage!({ data: new ArrayBuffer(3) });
    expect(unread).toEqual(['a frame has a header of 40 bytes']);
    expect(socket.closed).toBe(true);
    expect(reader.losses).toBe(1);
    timers.advance(400);
    expect(sockets).toHaveLength(2);
  });

  it('signs in first, in a message and never in the address', () => {
    token = 'secret';
    client.subscribe('status', new Reader());
    expect(opened().take().map((message) => message.op)).toEqual(['auth', 'subscribe']);
  });

  it('stays away after a refused sign-in until told', () => {
    opened().say({ type: 'error', code: 'UNAUTHENTICATED' });
    timers.advance(60_000);
    expect(sockets).toHaveLength(1);
    expect(refused).toBe(1);
    client.reconnect();
    expect(sockets).toHaveLength(2);
  });

  it('pauses data of a hidden page, keeps events, and asks for the whole on return', () => {
    const reader = new Reader();
    client.subscribe('q', reader);
    client.subscribe('events', new Reader());
    const socket = opened();
    socket.say(snapshot('q', 1));
    socket.take();
    client.pause(true);
    expect(socket.take()).toEqual([{ op: 'unsubscribe', topics: ['q'] }]);
    expect(reader.losses).toBe(1);
    client.pause(false);
    expect(socket.take()).toEqual([{ op: 'subscribe', topics: ['q'], max_rate_hz: 5 }]);
  });
});
