/** JSON messages of the stream (contract section 7). */
import type { WireRow } from '../model/rowstore';
import type { Dictionary, InstrumentFacts, Packed } from './binary';

export interface Summary {
  underlying_ltp: number | null;
  underlying_source: string | null;
  underlying_age_ms?: number | null;
  /** Token of the instrument whose price is the underlying's. */
  underlying?: string | null;
  atm_strike: number | null;
  pcr: number | null;
  pcr_volume?: number | null;
  max_pain: number | null;
  straddle: number | null;
  atm_iv: number | null;
  total_ce_oi: number | null;
  total_pe_oi: number | null;
  /** What put-call parity says of the price at expiry. */
  forward?: number | null;
  /** Token of the future of the same expiry, else of the nearest. */
  future?: string | null;
  future_ltp?: number | null;
  future_change_pct?: number | null;
  future_buildup?: string | null;
  basis?: number | null;
  lot_size?: number | null;
  expiry_ms?: number | null;
  days_left?: number | null;
  /** Of the options' segment: PRE_OPEN, OPEN or CLOSED. */
  session?: string | null;
}

export type Coverage = Record<string, number>;

export interface RowsData {
  rows?: Record<string, WireRow>;
  /** The rows of a packed frame; then `rows` is absent. */
  packed?: Packed;
  /** Strike, side, lot and tick of each row; with snapshots only. */
  instruments?: Record<string, InstrumentFacts>;
  summary?: Summary;
  coverage?: Coverage;
}

export interface DepthLevel {
  price: number | null;
  qty: number | null;
  orders: number | null;
}

export interface DepthData {
  bids: DepthLevel[];
  asks: DepthLevel[];
}

export interface ConnectionStatus {
  active: boolean;
  state: string;
  instruments: number;
  utilization_percent: number;
  last_connected: string | null;
  reconnect_attempts: number;
  last_error: string | null;
  last_data_age_ms: number | null;
  packets_per_s?: number | null;
  lag_p50_ms?: number | null;
  lag_p99_ms?: number | null;
  late?: boolean;
}

/** Where Tier A is going, from its last minutes; null while too little is known. */
export interface Forecast {
  free: number;
  window_min: number;
  adds_per_min: number | null;
  net_per_min: number | null;
  full_by: string | null;
}

export interface StatusData {
  subscriptions: {
    total_subscriptions: number;
    max_capacity: number;
    utilization_percent: number;
    tier_a_count: number;
    tier_b_count: number;
    states: Record<string, number>;
    forecast?: Forecast | null;
  };
  websocket: {
    connected_connections: number;
    total_connections: number;
    total_subscriptions: number;
    max_capacity: number;
    per_connection: Record<string, ConnectionStatus>;
  };
}

export interface DataMessage {
  type: 'snapshot' | 'delta';
  topic: string;
  seq: number;
  at_ms: number;
  data: unknown;
}

export interface StreamEvent {
  type: 'event';
  kind: string;
  at_ms?: number;
  user_id?: number | null;
  data?: Record<string, unknown>;
  [key: string]: unknown;
}

export interface ErrorMessage {
  type: 'error';
  code: string;
  detail?: string;
  message?: string;
  topic?: string;
  /** The one that is not listed. */
  token?: string;
}

/** Why a topic was refused, in the service's words. */
export function reasonOf(error: ErrorMessage): string {
  return error.detail ?? error.message ?? error.code;
}

export type ServerMessage = Dictionary | DataMessage | StreamEvent | ErrorMessage | { type: string; at_ms?: number };
