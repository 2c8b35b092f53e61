import { Api, ApiError, type Health } from '../api';
import { StreamClient, type Link, type Socket, type Timers, type TopicSink } from '../wire/stream';
import type { StatusData, StreamEvent } from '../wire/messages';
import { BINARY_PROTOCOL } from '../wire/binary';
import { mergeDoc } from '../wire/merge';
import { chainKey, connectionWords, noticeOf } from '../model/notices';
import { session } from './session.svelte';

const HEALTH_EVERY_MS = 5_000;
const HIDDEN_GRACE_MS = 5_000;
const NOTES_MAX = 5;
const NOTE_STAYS_MS = 9_000;
const RATE_WINDOW_MS = 1_000;
/** The status comes once a second; up to twice that is its own pace, not silence. */
const STATUS_EVERY_MS = 2_000;

export interface Note {
  id: number;
  kind: 'info' | 'good' | 'bad';
  text: string;
}

const timers: Timers = {
  set: (run, ms) => window.setTimeout(run, ms),
  clear: (id) => window.clearTimeout(id),
  now: () => performance.now(),
  random: () => Math.random(),
};

/** Address of the stream, under whatever prefix this page is served. */
function streamUrl(): string {
  const url = new URL('api/v2/stream', document.baseURI);
  url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
  url.hash = '';
  return url.href;
}

/** What is known of the service as a whole; the header and the health board show it. */
class Live {
  link = $state<Link>('connecting');
  status = $state.raw<StatusData | null>(null);
  statusFresh = $state(false);
  /** The service's clock when it last told its status: ages in it go on from there. */
  private statusMs = $state(NaN);
  health = $state.raw<Health | null>(null);
  /** False from the first failed request on: the badges then say so. */
  reachable = $state(true);
  /** How long the stream's answers take, ms: what is shown may be as old. */
  delayMs = $state(0);
  notes = $state.raw<Note[]>([]);
  /** Row updates a second that reached this page. */
  rate = $state(0);
  /** The service's clock, once a second, for ages and countdowns. NaN until it was heard: it may live on another day. */
  nowMs = $state(NaN);
  /** Raised by an event that changes the watchlists. */
  listRevision = $state(0);
  /** Sessions that began or ended since this page was opened: a morning's may list other contracts. */
  sessions = $state(0);
  /** Chains that came back after an eviction, since this page was opened: when, by symbol and expiry. */
  returned = $state.raw<Record<string, number>>({});
  hidden = $state(false);
  /** The service wants a sign-in: until then nothing is asked for and nothing on screen is live. */
  signedOut = $state(false);
  /** What an answer for admins only taught of the caller; without a sign-in everybody is one. */
  rights = $state<'unknown' | 'admin' | 'user'>('unknown');

  readonly api = new Api('', {
    token: session.token,
    refused: (token) => token === session.token() && this.needSignIn(), // not of a sign-in that is over already
  });
  readonly stream = new StreamClient(
    () => new WebSocket(streamUrl(), BINARY_PROTOCOL) as unknown as Socket,
    {
      link: (state) => (this.link = state),
      event: (event) => this.event(event),
      heard: (atMs) => this.heard(atMs),
      delay: (ms) => (this.delayMs = ms),
      unauthenticated: () => this.needSignIn(),
      unreadable: (why) => this.note(`The stream cannot be read (${why}): reload this page`, 'bad'),
    },
    timers,
    session.token,
  );

  private offset = 0;
  private counted = 0;
  private countedAt = performance.now();
  private noteId = 0;
  /** Connections that are not up, and what each was said to be. */
  private readonly down = new Map<number, string>();
  private downNote = 0;
  private hideTimer = 0;
  /** Whom the notes and returns are told to. */
  private user = session.signed?.userId;

  start(): void {
    this.stream.subscribe('status', this.statusSink(), 1);
    this.stream.subscribe('events', { snapshot: () => {}, delta: () => {} });
    this.stream.start();
    void this.poll();
    setInterval(() => this.second(), RATE_WINDOW_MS);
    document.addEventListener('visibilitychange', () => this.visibility());
  }

  /** The service's clock now (the simulated day, when it simulates one). */
  serverNow(): number {
    return Date.now() + this.offset;
  }

  /** Age of the youngest packet over all connections, ms; Infinity before the first. It grows while nothing comes. */
  get dataAge(): number {
    const ages = Object.values(this.status?.websocket.per_connection ?? {}).map((one) => one.last_data_age_ms ?? Infinity);
    const since = Number.isNaN(this.nowMs) ? 0 : Math.max(0, this.nowMs - this.statusMs);
    return Math.min(Infinity, ...ages) + (since > STATUS_EVERY_MS ? since : 0);
  }

  count(rows: number): void {
    this.counted += rows;
  }

  note(text: string, kind: Note['kind'] = 'info'): number {
    const note = { id: ++this.noteId, kind, text };
    this.notes = [...this.notes, note].slice(-NOTES_MAX);
    setTimeout(() => this.dismiss(note.id), NOTE_STAYS_MS);
    return note.id;
  }

  dismiss(id: number): void {
    this.notes = this.notes.filter((note) => note.id !== id);
  }

  /** Say why a request failed; a missing sign-in has its own dialog. */
  failed(error: unknown): void {
    if (error instanceof ApiError) {
      if (error.status !== 401) this.note(`${error.message} (${error.code})`, 'bad');
    } else this.note('The service does not answer', 'bad');
  }

  /** Somebody has signed in, or out: everything is asked for anew, and nothing told to another stays. */
  signedIn(): void {
    if (session.signed?.userId !== this.user) {
      this.user = session.signed?.userId;
      this.returned = {};
      this.notes = [];
    }
    this.rights = 'unknown';
    this.signedOut = false;
    this.stream.reconnect();
    this.listRevision++;
    void this.refreshHealth();
  }

  private heard(atMs: number): void {
    this.offset = atMs - Date.now();
    if (Number.isNaN(this.nowMs)) this.nowMs = atMs;
  }

  private needSignIn(): void {
    if (this.signedOut) return; // told already: whoever closed the dialog may look at the old screen in peace
    this.signedOut = true;
    session.needed = true;
    if (this.link === 'open') this.stream.stop(); // one still being opened shows nothing, and is refused by itself
  }

  private statusSink(): TopicSink {
    const take = (data: unknown, atMs: number, held: StatusData | null) => {
      this.status = mergeDoc<StatusData>(held, data);
      this.statusMs = atMs;
      this.statusFresh = true;
    };
    return {
      snapshot: (data, atMs) => take(data, atMs, null),
      delta: (data, atMs) => take(data, atMs, this.status),
      lost: () => (this.statusFresh = false),
    };
  }

  private event(event: StreamEvent): void {
    const isOwn = (event.user_id ?? session.userId) === session.userId; // an admin hears what happens to others too
    const notice = isOwn ? noticeOf(event) : null;
    if (notice) this.note(notice.text, notice.kind);
    if (event.kind === 'feed') this.feedNote(event.data ?? {});
    if (isOwn && event.kind === 'restored') {
      this.returned = { ...this.returned, [chainKey(event.data?.symbol, event.data?.expiry)]: event.at_ms ?? this.serverNow() };
    }
    if (event.kind === 'session') this.sessions++;
    if (event.kind === 'feed' || event.kind === 'session') void this.refreshHealth();
    else this.listRevision++;
  }

  /** A connection that comes up says so only if its going down was shown; those that fail alike share one note. */
  private feedNote(data: Record<string, unknown>): void {
    const socket = Number(data.ws_id);
    const state = String(data.state ?? 'changed');
    if (data.segment !== undefined) return this.segmentNote(String(data.segment), state);
    if (state === 'starting') return;
    if (state !== 'up') {
      const what = state.replaceAll('_', ' ') + (data.reason ? `: ${String(data.reason)}` : '');
      this.down.set(socket, what);
      const alike = [...this.down].filter(([, one]) => one === what).map(([one]) => one);
      if (alike.length > 1) this.dismiss(this.downNote);
      this.downNote = this.note(connectionWords(alike, what), 'bad');
    } else if (this.down.delete(socket)) this.note(`Upstream connection ${socket} is up again`, 'good');
  }

  private segmentNote(segment: string, state: string): void {
    if (state === 'silent') this.note(`Nothing of ${segment} comes any more, on any connection`, 'bad');
    else if (state === 'alive') this.note(`${segment} comes again`, 'good');
  }

  private second(): void {
    const now = performance.now();
    this.rate = Math.round((this.counted * 1000) / (now - this.countedAt));
    this.counted = 0;
    this.countedAt = now;
    if (!document.hidden && !Number.isNaN(this.nowMs)) this.nowMs = this.serverNow();
  }

  private visibility(): void {
    clearTimeout(this.hideTimer);
    this.hidden = document.hidden;
    if (document.hidden) this.hideTimer = window.setTimeout(() => this.stream.pause(true), HIDDEN_GRACE_MS);
    else {
      this.stream.pause(false);
      void this.refreshHealth();
    }
  }

  private async poll(): Promise<void> {
    if (!document.hidden) await this.refreshHealth();
    setTimeout(() => void this.poll(), HEALTH_EVERY_MS);
  }

  private async refreshHealth(): Promise<void> {
    try {
      this.health = await this.api.health();
      this.reachable = true;
    } catch (error) {
      this.reachable = error instanceof ApiError;
    }
  }
}

export const live = new Live();
