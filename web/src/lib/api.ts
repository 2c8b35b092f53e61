/** The REST side: typed calls, problem+json as one error class. */
import type { Bars } from './model/bars';

export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    detail: string,
    readonly body: Record<string, unknown> = {},
  ) {
    super(detail);
  }
}

export interface SearchHit {
  symbol: string;
  count: number;
  f_o_eligible: boolean;
  name: string | null;
  match: string;
  token?: string | null;
  expiry?: string | null;
}

export interface NamedList {
  name: string;
  /** Entries, and those of them that are not active. */
  count: number;
  evicted: number;
  is_default: boolean;
}

export interface WatchEntry {
  id: number;
  list: string;
  symbol: string;
  expiry_date: string | null;
  instrument_type: string;
  added_at: string;
  added_order: number;
  state: string;
  state_at?: string | null;
  state_reason?: string | null;
}

export interface SymbolInfo {
  symbol: string;
  lot_size?: number | null;
  tick_size?: number | null;
  tick?: number | null;
  strike_step?: number | null;
  segments?: string[];
  f_o_eligible?: boolean;
  [extra: string]: unknown;
}

export interface AddAnswer {
  success: boolean;
  message: string;
  strikes_subscribed: number;
  missing: { strike: number; option_type: string; reason: string }[];
  evicted: { symbol: string; expiry: string; legs: number; owner: string }[];
}

export interface Subscription {
  token: string;
  symbol: string;
  expiry: string | null;
  strike: number | null;
  option_type: string | null;
  tier: string;
  subscribed_at: string;
  ws_id: number | null;
  active: boolean;
  state: string;
  owners: number | unknown[];
}

export interface LogEntry {
  id: number;
  action: string;
  instrument_token: string;
  reason: string | null;
  timestamp: string;
}

export interface Health {
  status: string;
  reasons?: (string | Record<string, unknown>)[];
  feed?: { source?: string; state?: string; [extra: string]: unknown };
  market?: Record<string, { phase?: string; next_change?: string | null } | string>;
  eod?: { next?: string | null; [extra: string]: unknown } | null;
  [extra: string]: unknown;
}

/** A request that hangs for so long has failed: the service gives up waiting well before, and says so. */
const PATIENCE_MS = 20_000;

type Query = Record<string, string | number | null | undefined>;

export interface Identity {
  token(): string | null;
  /** A request was refused for want of a valid sign-in; the token is the one it carried. */
  refused(token: string | null): void;
}

export class Api {
  constructor(
    private readonly base: string,
    private readonly who: Identity,
  ) {}

  search = (q: string, limit = 12) =>
    this.get<{ results: SearchHit[] }>('api/v2/instruments/search', { q, limit });
  describe = (symbol: string) => this.get<SymbolInfo>(`api/v2/instruments/${enc(symbol)}`);
  expiries = (symbol: string) =>
    this.get<{ symbol: string; expiries: string[] }>(`api/v2/instruments/${enc(symbol)}/expiries`);
  watchlist = (userId: number) => this.get<{ watchlist: WatchEntry[] }>(`api/v2/watchlist/${userId}`);
  lists = (userId: number) => this.get<{ lists: NamedList[] }>(`api/v2/watchlists/${userId}`);
  health = () => this.get<Health>('health');
  why = (token: string) =>
    this.get<{ token: string; details: Record<string, unknown>; why: string }>(`api/v2/subscriptions/${enc(token)}`);
  active = (query: Query) =>
    this.get<{ count: number; total?: number; next?: string | null; subscriptions: Subscription[] }>(
      'api/v2/subscriptions/active',
      query,
    );
  log = (query: Query) =>
    this.get<{ count: number; next: string | null; log: LogEntry[] }>('api/v2/subscriptions/log', query);
  bars = (symbol: string, expiry: string | null, since_ms: number | null) =>
    this.get<Bars>(`api/v2/bars/${enc(symbol)}`, { expiry, since_ms });
  registry = () => this.get<Record<string, unknown>>('api/v2/admin/registry');
  tierB = () => this.get<Record<string, unknown>>('api/v2/admin/tier-b');

  addEntry = (entry: { user_id: number; symbol: string; expiry?: string; instrument_type: string; list: string }) =>
    this.post<AddAnswer>('api/v2/watchlist/add', entry);
  removeEntry = (user_id: number, entry: Pick<WatchEntry, 'id' | 'symbol' | 'expiry_date'>) => {
    const expiry = entry.expiry_date ? { expiry: entry.expiry_date } : {};
    return this.post<{ unsubscribed: number }>('api/v2/watchlist/remove', { user_id, id: entry.id, symbol: entry.symbol, ...expiry });
  };
  orderEntries = (user_id: number, list: string, ids: number[]) =>
    this.post<{ watchlist: WatchEntry[] }>('api/v2/watchlist/order', { user_id, list, ids });
  moveEntry = (user_id: number, id: number, list: string, copy: boolean) =>
    this.post<{ message: string }>('api/v2/watchlist/move', { user_id, id, list, copy });
  createList = (user_id: number, name: string) => this.changeLists('create', { user_id, name });
  renameList = (user_id: number, list: string, name: string) => this.changeLists('rename', { user_id, list, name });
  deleteList = (user_id: number, list: string) => this.changeLists('delete', { user_id, list });
  orderLists = (user_id: number, lists: string[]) => this.changeLists('order', { user_id, lists });
  rebalance = () => this.post<{ moved_count: number }>('api/v2/admin/rebalance-ws', {});
  unsubscribeTierA = () =>
    this.post<{ count: number; message: string }>('api/v2/admin/unsubscribe-all-tier-a', {});
  clearWatchlists = () => this.post<{ cleared_count: number }>('api/v2/admin/clear-watchlists', {});

  private changeLists(verb: string, body: object): Promise<{ lists: NamedList[]; message: string }> {
    return this.post(`api/v2/watchlists/${verb}`, body);
  }

  async signIn(username: string, password: string): Promise<{ access_token: string; user_id: number }> {
    const body = new URLSearchParams({ username, password, grant_type: 'password' });
    const answer = await this.ask('api/v2/auth/token', { method: 'POST', body });
    return (await this.read(answer)) as { access_token: string; user_id: number };
  }

  /** Ends this sign-in for good: its token is worth nothing afterwards. */
  signOut = () => this.post<{ ended: number }>('api/v2/auth/sign-out', {});

  private get<T>(path: string, query: Query = {}): Promise<T> {
    const params = new URLSearchParams();
    for (const [key, value] of Object.entries(query)) if (value != null) params.set(key, String(value));
    const tail = params.size ? `?${params}` : '';
    return this.call<T>(path + tail, { method: 'GET' });
  }

  private post<T>(path: string, body: object): Promise<T> {
    const headers = { 'Content-Type': 'application/json', 'Idempotency-Key': newKey() };
    return this.call<T>(path, { method: 'POST', headers, body: JSON.stringify(body) });
  }

  private async call<T>(path: string, init: RequestInit): Promise<T> {
    const token = this.who.token();
    const headers = new Headers(init.headers);
    if (token) headers.set('Authorization', `Bearer ${token}`);
    const answer = await this.ask(path, { ...init, headers });
    if (answer.status === 401) this.who.refused(token);
    return (await this.read(answer)) as T;
  }

  private ask(path: string, init: RequestInit): Promise<Response> {
    return fetch(this.base + path, { ...init, signal: AbortSignal.timeout(PATIENCE_MS) });
  }

  private async read(answer: Response): Promise<unknown> {
    const body = (await answer.json().catch(() => ({}))) as Record<string, unknown>;
    if (answer.ok) return body;
    const detail = body.detail ?? body.title ?? `The service answered ${answer.status}`;
    const text = typeof detail === 'string' ? detail : JSON.stringify(detail);
    throw new ApiError(answer.status, String(body.code ?? answer.status), text, body);
  }
}

/** One key for each intended write; a secure context is not a given on a LAN address. */
function newKey(): string {
  return globalThis.crypto?.randomUUID?.() ?? `${Date.now()}-${Math.random().toString(36).slice(2)}`;
}

const enc = encodeURIComponent;
