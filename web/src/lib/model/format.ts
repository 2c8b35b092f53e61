/** Number and time formats. Written by hand: Intl is too slow for the paint loop. Unknown is a dash. */

export const DASH = '–';
const MINUS = '-';

/** 1234567 -> 12,34,567 (digits only, no sign). */
export function groupIndian(digits: string): string {
  if (digits.length <= 3) return digits;
  let out = digits.slice(-3);
  let rest = digits.slice(0, -3);
  while (rest.length > 2) {
    out = `${rest.slice(-2)},${out}`;
    rest = rest.slice(0, -2);
  }
  return `${rest},${out}`;
}

export function price(value: number, decimals = 2): string {
  if (Number.isNaN(value)) return DASH;
  const text = Math.abs(value).toFixed(decimals);
  const dot = text.indexOf('.');
  const whole = dot < 0 ? text : text.slice(0, dot);
  const sign = value < 0 && Number(text) !== 0 ? MINUS : '';
  return sign + groupIndian(whole) + (dot < 0 ? '' : text.slice(dot));
}

/** With its sign in front, as every coloured number must have; zero has none. */
export function signed(value: number, decimals = 2): string {
  const text = price(value, decimals);
  return value > 0 && Number(value.toFixed(decimals)) !== 0 ? `+${text}` : text;
}

/** Colour of a number as it is written: what rounds to zero has none. */
export function tone(text: string): 'up' | 'down' | '' {
  return text.startsWith('+') ? 'up' : text.startsWith(MINUS) ? 'down' : '';
}

export function percent(value: number, decimals = 2): string {
  return Number.isNaN(value) ? DASH : `${signed(value, decimals)}%`;
}

export function whole(value: number): string {
  return price(value, 0);
}

export function signedWhole(value: number): string {
  return signed(value, 0);
}

const LAKH = 1e5;
const CRORE = 1e7;

/** 1321000 -> 13.21 L, 13300000 -> 1.33 Cr; below a lakh the whole number. */
export function compact(value: number): string {
  if (Number.isNaN(value)) return DASH;
  const size = Math.abs(value);
  if (size >= CRORE) return `${price(value / CRORE)} Cr`;
  if (size >= LAKH) return `${price(value / LAKH)} L`;
  return whole(value);
}

export function signedCompact(value: number): string {
  const text = compact(value);
  return value > 0 ? `+${text}` : text;
}

export function plain(decimals: number): (value: number) => string {
  return (value) => price(value, decimals);
}

export function strike(value: number): string {
  return Number.isInteger(value) ? String(value) : String(Number(value.toFixed(4)));
}

/** 340 -> "0.3 s", 47000 -> "47 s", 125000 -> "2 min". */
export function age(ms: number): string {
  if (Number.isNaN(ms) || ms < 0) return DASH;
  if (ms < 1000) return `${(ms / 1000).toFixed(1)} s`;
  if (ms < 90_000) return `${Math.floor(ms / 1000)} s`;
  if (ms < 5_400_000) return `${Math.floor(ms / 60_000)} min`;
  return `${Math.floor(ms / 3_600_000)} h`;
}

const IST_OFFSET_MS = 19_800_000;
const pad = (value: number): string => String(value).padStart(2, '0');

/** Indian clock time; the exchanges' zone has no daylight saving, so an offset is exact. */
export function clock(ms: number, seconds = true): string {
  if (!ms || Number.isNaN(ms)) return DASH;
  const at = new Date(ms + IST_OFFSET_MS);
  const short = `${pad(at.getUTCHours())}:${pad(at.getUTCMinutes())}`;
  return seconds ? `${short}:${pad(at.getUTCSeconds())}` : short;
}

export const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];

/** The time of day, with its date in front where that is not today; a dash where there is none. */
export function moment(ms: number, nowMs: number, seconds = false): string {
  if (!ms || Number.isNaN(nowMs) || istDay(ms) === istDay(nowMs)) return clock(ms, seconds);
  const at = new Date(ms + IST_OFFSET_MS);
  return `${at.getUTCDate()} ${MONTHS[at.getUTCMonth()]} ${clock(ms, seconds)}`;
}

/** Days since 1970 in India; for days left. */
export function istDay(ms: number): number {
  return Math.floor((ms + IST_OFFSET_MS) / 86_400_000);
}
