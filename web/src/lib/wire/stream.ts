import { FrameDecoder, type Dictionary } from './binary';
import type { DataMessage, ErrorMessage, ServerMessage, StreamEvent } from './messages';

/** What a topic's reader is told. `lost`: from now on the values held may not pass for live. */
export interface TopicSink {
  snapshot(data: unknown, atMs: number): void;
  delta(data: unknown, atMs: number): void;
  lost?(): void;
  refused?(error: ErrorMessage): void;
}

export type Link = 'connecting' | 'open' | 'down';

export interface StreamHooks {
  link(state: Link): void;
  event(event: StreamEvent): void;
  /** The service's clock as seen at the arrival of a message. */
  heard(atMs: number): void;
  /** How long a question and its answer take now: on a slow line what arrives is as old, whatever it says of itself. */
  delay(ms: number): void;
  /** The service wants a (new) sign-in; the client stays down until `reconnect`. */
  unauthenticated(): void;
  /** A message that this page cannot read: most likely the service is newer than the page. */
  unreadable(why: string): void;
}

/** The parts of a socket that are used; a test gives its own. */
export interface Socket {
  binaryType: string;
  readonly protocol: string;
  onopen: (() => void) | null;
  onmessage: ((event: { data: unknown }) => void) | null;
  onclose: ((event: { code: number }) => void) | null;
  send(text: string): void;
  close(): void;
}

export interface Timers {
  set(run: () => void, ms: number): number;
  clear(id: number): void;
  now(): number;
  random(): number;
}

const BACKOFF_FIRST_MS = 250;
const BACKOFF_MAX_MS = 10_000;
const PING_EVERY_MS = 2_000;
const SILENCE_DEAD_MS = 9_000;
/** By then the service has cut off whoever reads so slowly: the answer was lost. */
const PING_LOST_MS = 30_000;
const WATCH_EVERY_MS = 1_000;
/** The service takes so many messages a second from one client, and says only that it was one too many. */
const ASK_AGAIN_MS = 1_000;

interface Topic {
  sinks: Set<TopicSink>;
  rateHz: number;
  /** Last seq applied; -1: nothing held, so a snapshot is needed. */
  seq: number;
  /** A gap was seen: deltas wait for the answer to `resume`. */
  resuming: boolean;
}

/**
 * One connection to the stream for the whole page.
 *
 * It knows which topics are wanted; a new connection asks for them again, by `resume` where a seq is held.
 * Topics are shared: two readers of one topic cost one subscription.
 */
export class StreamClient {
  private readonly topics = new Map<string, Topic>();
  private socket: Socket | null = null;
  private link: Link = 'down';
  private attempts = 0;
  private retryTimer = 0;
  private watchTimer = 0;
  private againTimer = 0;
  private heardAt = 0;
  /** When the ping was sent that has no answer yet; 0: none is on its way. */
  private pingedAt = 0;
  private answeredAt = 0;
  /** Of the last ping that was answered. */
  private roundTrip = 0;
  private paused = false;
  private stopped = true;
  private readonly frames = new FrameDecoder();

  constructor(
    private readonly open: () => Socket,
    private readonly hooks: StreamHooks,
    private readonly timers: Timers,
    private readonly token: () => string | null,
  ) {}

  start(): void {
    if (!this.stopped) return;
    this.stopped = false;
    this.connect();
  }

  stop(): void {
    this.stopped = true;
    this.timers.clear(this.retryTimer);
    this.drop();
  }

  /** After a sign-in or sign-out: everything is asked for anew with the new identity. */
  reconnect(): void {
    for (const topic of this.topics.values()) topic.seq = -1;
    this.attempts = 0;
    this.timers.clear(this.retryTimer);
    this.drop();
    this.stopped = false;
    this.connect();
  }

  subscribe(name: string, sink: TopicSink, rateHz = 5): () => void {
    let topic = this.topics.get(name);
    if (!topic) {
      topic = { sinks: new Set(), rateHz, seq: -1, resuming: false };
      this.topics.set(name, topic);
    } else if (topic.seq >= 0) {
      topic.seq = -1; // a second reader needs the whole, so the topic starts again with a snapshot
    }
    topic.sinks.add(sink);
    this.ask(name, topic);
    return () => this.leave(name, sink);
  }

  /** A hidden page needs no prices; what it held may not pass for live until a new snapshot. */
  pause(on: boolean): void {
    if (on === this.paused) return;
    this.paused = on;
    const names = [...this.topics.keys()].filter((name) => name !== 'events' && name !== 'status');
    if (on) {
      this.send({ op: 'unsubscribe', topics: names });
      for (const name of names) this.lose(this.topics.get(name)!, true);
    } else {
      for (const name of names) this.ask(name, this.topics.get(name)!);
    }
  }

  private leave(name: string, sink: TopicSink): void {
    const topic = this.topics.get(name);
    if (!topic?.sinks.delete(sink) || topic.sinks.size) return;
    this.topics.delete(name);
    this.send({ op: 'unsubscribe', topics: [name] });
  }

  private connect(): void {
    this.setLink('connecting');
    const socket = this.open();
    this.socket = socket;
    socket.binaryType = 'arraybuffer';
    this.frames.forget();
    socket.onopen = () => this.opened(socket);
    socket.onmessage = (event) => this.received(socket, event.data);
    socket.onclose = (event) => this.closed(socket, event.code);
    this.heardAt = this.answeredAt = this.timers.now();
    this.pingedAt = this.roundTrip = 0;
    this.hooks.delay(0);
    this.watch();
  }

  private opened(socket: Socket): void {
    if (socket !== this.socket) return;
    this.heardAt = this.timers.now();
    const token = this.token();
    if (token) this.send({ op: 'auth', token });
    this.setLink('open');
    for (const [name, topic] of this.topics) this.ask(name, topic);
  }

  private ask(name: string, topic: Topic): void {
    if (this.link !== 'open' || (this.paused && name !== 'events' && name !== 'status')) return;
    topic.resuming = topic.seq >= 0;
    if (topic.resuming) this.send({ op: 'resume', topic: name, seq: topic.seq, max_rate_hz: topic.rateHz });
    else this.send({ op: 'subscribe', topics: [name], max_rate_hz: topic.rateHz });
  }

  private received(socket: Socket, data: unknown): void {
    if (socket !== this.socket) return;
    this.heardAt = this.timers.now();
    let message: (ServerMessage & { at_ms?: number }) | null;
    try {
      message = this.parse(data);
    } catch (error) {
      this.hooks.unreadable(error instanceof Error ? error.message : String(error));
      this.closed(socket, 4002);
      return;
    }
    if (!message) return;
    if (typeof message.at_ms === 'number') this.hooks.heard(message.at_ms);
    if (message.type === 'snapshot' || message.type === 'delta') this.data(message as DataMessage);
    else if (message.type === 'event') this.hooks.event(message as StreamEvent);
    else if (message.type === 'error') this.failed(message as ErrorMessage);
    else if (message.type === 'pong' && this.pingedAt) this.answered();
  }

  private parse(data: unknown): (ServerMessage & { at_ms?: number }) | null {
    if (typeof data === 'string') {
      const message = JSON.parse(data) as ServerMessage;
      if (message.type === 'dictionary') this.frames.learn(message as Dictionary);
      return message;
    }
    const frame = this.frames.read(data as ArrayBuffer);
    if (!frame) return null;
    const { dictionary, isSnapshot, seq, atMs, doc } = frame;
    const instruments = isSnapshot && dictionary.instruments ? { instruments: dictionary.instruments } : {};
    return {
      type: isSnapshot ? 'snapshot' : 'delta',
      topic: dictionary.topic,
      seq,
      at_ms: atMs,
      data: { ...doc, ...instruments, packed: frame },
    };
  }

  private data(message: DataMessage): void {
    const topic = this.topics.get(message.topic);
    if (!topic) return;
    this.attempts = 0;
    if (message.type === 'snapshot') {
      topic.seq = message.seq;
      topic.resuming = false;
      for (const sink of topic.sinks) sink.snapshot(message.data, message.at_ms);
      return;
    }
    if (topic.seq < 0 || message.seq <= topic.seq) return;
    if (message.seq !== topic.seq + 1) return this.gap(message.topic, topic);
    topic.seq = message.seq;
    topic.resuming = false;
    for (const sink of topic.sinks) sink.delta(message.data, message.at_ms);
  }

  private gap(name: string, topic: Topic): void {
    if (topic.resuming) return;
    this.lose(topic, false);
    this.ask(name, topic);
  }

  private failed(error: ErrorMessage): void {
    if (error.code === 'UNAUTHENTICATED') {
      this.stop();
      this.hooks.unauthenticated();
      return;
    }
    if (error.code === 'RATE_LIMITED' && !error.topic) return this.askAgain();
    const topic = error.topic ? this.topics.get(error.topic) : undefined;
    if (!topic) return;
    if (topic.resuming) {
      topic.seq = -1; // the seq is not known there any more: take the whole
      this.ask(error.topic!, topic);
    } else {
      for (const sink of topic.sinks) sink.refused?.(error);
    }
  }

  /** The refusal does not tell of which topic: a moment later all are asked for that have no answer by then. */
  private askAgain(): void {
    this.forgetPing();
    this.timers.clear(this.againTimer);
    this.againTimer = this.timers.set(() => {
      for (const [name, topic] of this.topics) if (topic.seq < 0 || topic.resuming) this.ask(name, topic);
    }, ASK_AGAIN_MS);
  }

  private closed(socket: Socket, code: number): void {
    if (socket !== this.socket) return;
    this.drop();
    if (this.stopped) return;
    if (code === 4401 || code === 1008) {
      this.stopped = true;
      this.hooks.unauthenticated();
      return;
    }
    const ceiling = Math.min(BACKOFF_MAX_MS, BACKOFF_FIRST_MS * 2 ** this.attempts++);
    this.retryTimer = this.timers.set(() => this.connect(), this.timers.random() * ceiling + 50);
  }

  private drop(): void {
    const socket = this.socket;
    this.socket = null;
    this.timers.clear(this.watchTimer);
    this.timers.clear(this.againTimer);
    if (socket) {
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close();
    }
    for (const topic of this.topics.values()) this.lose(topic, false);
    this.setLink('down');
  }

  private lose(topic: Topic, forget: boolean): void {
    topic.resuming = false;
    if (forget) topic.seq = -1;
    for (const sink of topic.sinks) sink.lost?.();
  }

  private answered(): void {
    this.roundTrip = this.timers.now() - this.pingedAt;
    this.forgetPing();
    this.hooks.delay(this.roundTrip);
  }

  private waited(): void {
    const ms = this.timers.now() - this.pingedAt;
    this.hooks.delay(Math.max(this.roundTrip, ms));
    if (ms > PING_LOST_MS) this.forgetPing();
  }

  private forgetPing(): void {
    this.pingedAt = 0;
    this.answeredAt = this.timers.now();
  }

  /**
   * Silence is no proof of life, nor is what comes proof of its age: numbers wait in the buffers of a slow line, and
   * tell a time that was. An answer waits behind them, so its delay is theirs.
   */
  private watch(): void {
    this.timers.clear(this.watchTimer);
    this.watchTimer = this.timers.set(() => {
      const silent = this.timers.now() - this.heardAt;
      if (silent > SILENCE_DEAD_MS && this.socket) {
        this.closed(this.socket, 4000);
        return;
      }
      if (this.pingedAt) this.waited();
      else if (this.link === 'open' && this.timers.now() - this.answeredAt >= PING_EVERY_MS) {
        this.pingedAt = this.timers.now();
        this.send({ op: 'ping' });
      }
      this.watch();
    }, WATCH_EVERY_MS);
  }

  private send(message: object): void {
    if (this.link === 'open' || 'op' in message && message.op === 'auth') this.socket?.send(JSON.stringify(message));
  }

  private setLink(state: Link): void {
    if (state === this.link) return;
    this.link = state;
    this.hooks.link(state);
  }
}
