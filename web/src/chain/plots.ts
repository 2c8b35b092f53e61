import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import { minuteEnds, type Bars } from '../lib/model/bars';
import { clock, compact, DASH, price, strike } from '../lib/model/format';
import { nearest, shownRange } from '../lib/model/ladder';
import type { Field } from '../lib/model/rowstore';
import type { ChainFeed } from './feed.svelte';

/** What the charts draw and how: uPlot's options and columns, without any component. */

export const HEIGHT = 168;
/** Strikes each side of the money where the table shows all: the wings are flat and would take the room. */
const WIDE_REACH = 25;

type Column = (number | null)[];
export type Data = [number[], ...Column[]];

export interface Line {
  label: string;
  /** Custom property of the style sheet. */
  colour: string;
  text: (value: number) => string;
  /** On the right-hand axis. */
  right?: boolean;
  bars?: -1 | 1;
}

export interface Picture {
  lines: Line[];
  /** Times in ms, not strikes, on the horizontal axis. */
  isTime: boolean;
  data(): Data;
  /** Upright lines at these places: the money, the pain. */
  marks(): { at: number; colour: string }[];
}

const known = (value: number): number | null => (Number.isNaN(value) ? null : value);

/** A field of both legs by strike; without `put` the first leg that knows it. */
function byStrike(feed: ChainFeed, field: Field, reach: number, together: boolean): Data {
  const { strikes, ce, pe } = feed.ladder;
  const centre = nearest(strikes, feed.summary?.atm_strike ?? NaN);
  const [from, to] = shownRange(strikes.length, centre, reach || WIDE_REACH);
  const read = (slot: number) => known(feed.store.value(field, slot));
  const calls = ce.slice(from, to).map(read);
  const puts = pe.slice(from, to).map(read);
  const shown = strikes.slice(from, to);
  return together ? [shown, calls.map((value, i) => value ?? puts[i] ?? null)] : [shown, calls, puts];
}

export function strikePicture(feed: ChainFeed, field: Field, reach: number): Picture {
  const lines: Line[] =
    field === 'iv'
      ? [{ label: 'IV', colour: '--accent', text: (value) => price(value, 1) }]
      : [
          { label: 'Call', colour: '--down', text: compact, bars: -1 },
          { label: 'Put', colour: '--up', text: compact, bars: 1 },
        ];
  return {
    lines,
    isTime: false,
    data: () => byStrike(feed, field, reach, field === 'iv'),
    marks: () => {
      const { atm_strike: atm, max_pain: pain } = feed.summary ?? {};
      const marks = atm == null ? [] : [{ at: atm, colour: '--accent' }];
      return field === 'oi' && pain != null ? [...marks, { at: pain, colour: '--warn' }] : marks;
    },
  };
}

export const SESSION_VIEWS = ['Spot and straddle', 'ATM IV', 'Total OI', 'PCR'] as const;
export type SessionView = (typeof SESSION_VIEWS)[number];

const money = (value: number): string => price(value);
const SESSION_LINES: Record<SessionView, Line[]> = {
  'Spot and straddle': [
    { label: 'Spot', colour: '--accent', text: money },
    { label: 'Straddle', colour: '--warn', text: money, right: true },
  ],
  'ATM IV': [{ label: 'ATM IV', colour: '--accent', text: (value) => price(value, 1) }],
  'Total OI': [
    { label: 'Call', colour: '--down', text: compact },
    { label: 'Put', colour: '--up', text: compact },
  ],
  PCR: [{ label: 'PCR', colour: '--accent', text: money }],
};

/** The session by minutes, and what is live now as its last point. */
export function sessionPicture(feed: ChainFeed, bars: () => Bars | null, view: SessionView, nowMs: () => number): Picture {
  return {
    lines: SESSION_LINES[view],
    isTime: true,
    data: () => {
      const held = bars();
      const columns = held ? sessionColumns(held, view) : SESSION_LINES[view].map((): Column => []);
      const times = held ? minuteEnds(held) : [];
      const at = nowMs();
      if (held?.partial) for (const one of [times, ...columns]) one.pop();
      const now = liveNow(feed, view);
      if (feed.fresh && now.some((value) => value !== null) && at > (times.at(-1) ?? 0)) {
        times.push(at);
        columns.forEach((column, i) => column.push(now[i] ?? null));
      }
      return [times, ...columns];
    },
    marks: () => [],
  };
}

function sessionColumns(bars: Bars, view: SessionView): Column[] {
  const none = (): Column => new Array<null>(bars.count).fill(null);
  const chain = bars.chain;
  switch (view) {
    case 'Spot and straddle':
      return [[...bars.close], chain ? [...chain.straddle] : none()];
    case 'ATM IV':
      return [chain ? [...chain.atm_iv] : none()];
    case 'Total OI':
      return chain ? [[...chain.ce_oi], [...chain.pe_oi]] : [none(), none()];
    case 'PCR':
      return [chain ? [...chain.pcr] : none()];
  }
}

function liveNow(feed: ChainFeed, view: SessionView): Column {
  const now = feed.summary;
  if (!now || now.underlying_source !== 'live') return [];
  switch (view) {
    case 'Spot and straddle':
      return [now.underlying_ltp, now.straddle];
    case 'ATM IV':
      return [now.atm_iv];
    case 'Total OI':
      return [now.total_ce_oi, now.total_pe_oi];
    case 'PCR':
      return [now.pcr];
  }
}

const colour = (name: string): string => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const FONT = '11px Inter, system-ui, sans-serif';

export function optionsOf(picture: Picture, width: number): uPlot.Options {
  const grid = { stroke: colour('--line'), width: 1 };
  const axis: uPlot.Axis = { font: FONT, stroke: colour('--muted'), grid, ticks: { ...grid, size: 4 } };
  const across = (value: number): string => (picture.isTime ? clock(value, false) : strike(value));
  const sides = picture.lines.some((line) => line.right) ? [false, true] : [false];
  const range = rangeOf(picture.lines.some((line) => line.bars));
  return {
    width,
    height: HEIGHT,
    ms: 1,
    tzDate: (ms) => uPlot.tzDate(new Date(ms), 'Asia/Kolkata'),
    scales: { x: { time: picture.isTime }, y: { range }, right: { range } },
    cursor: { y: false, points: { size: 6 } },
    axes: [
      {
        ...axis,
        size: 26,
        space: 64,
        // in the first minutes of a session the library offers a tick beyond the plot
        filter: (plot, ticks) => ticks.map((tick) => (tick > (plot.scales.x!.max ?? Infinity) ? null : tick)),
        values: (_plot, ticks) => ticks.map((tick) => (tick === null ? '' : across(tick))),
      },
      ...sides.map((right): uPlot.Axis => {
        const text = picture.lines.find((line) => (line.right ?? false) === right)!.text;
        const bare = (value: number) => text(value).replace(/\.00(?=$| )/, '');
        return {
          ...axis,
          size: 58,
          side: right ? 1 : 3,
          scale: right ? 'right' : 'y',
          grid: { ...grid, show: !right },
          values: (_plot, ticks) => ticks.map(bare),
        };
      }),
    ],
    series: [{ value: (_plot, value) => (value == null ? DASH : across(value)), label: picture.isTime ? 'Time' : 'Strike' }, ...picture.lines.map(seriesOf)],
    hooks: { draw: [(plot) => drawMarks(plot, picture.marks())] },
  };
}

/** Some air above and below; bars stand on zero, and a single value is still a line with a scale. */
function rangeOf(isBars: boolean) {
  return (_plot: uPlot, low: number | null, high: number | null): [number, number] => {
    if (low === null || high === null) return [0, 1];
    const air = (high - low || Math.abs(high) / 500 || 1) * 0.08;
    return isBars ? [low < 0 ? low - air : 0, high > 0 ? high + air : 0] : [low - air, high + air];
  };
}

function seriesOf(line: Line): uPlot.Series {
  return {
    label: line.label,
    scale: line.right ? 'right' : 'y',
    stroke: colour(line.colour),
    fill: line.bars ? colour(line.colour) : undefined,
    width: line.bars ? 0 : 1.5,
    paths: line.bars ? uPlot.paths.bars!({ size: [0.42, 24], align: line.bars }) : undefined,
    points: { show: (plot) => plot.data[0].length < 3, size: 6 },
    value: (_plot, value) => (value == null ? DASH : line.text(value)),
  };
}

function drawMarks(plot: uPlot, marks: { at: number; colour: string }[]): void {
  const { ctx, bbox } = plot;
  for (const mark of marks) {
    const x = plot.valToPos(mark.at, 'x', true);
    if (x < bbox.left || x > bbox.left + bbox.width) continue;
    ctx.save();
    ctx.strokeStyle = colour(mark.colour);
    ctx.setLineDash([4, 4]);
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
    ctx.restore();
  }
}
