import { describe, expect, it } from 'vitest';
import { age, clock, compact, DASH, groupIndian, moment, percent, price, signed, signedCompact, strike, tone, whole } from '../src/lib/model/format';

describe('numbers', () => {
  it.each([
    ['1', '1'],
    ['999', '999'],
    ['1000', '1,000'],
    ['99999', '99,999'],
    ['100000', '1,00,000'],
    ['1234567', '12,34,567'],
    ['1234567890', '1,23,45,67,890'],
  ])('groups %s as %s', (digits, text) => expect(groupIndian(digits)).toBe(text));

  it('agrees with the en-IN locale on many numbers', () => {
    const locale = new Intl.NumberFormat('en-IN', { minimumFractionDigits: 2, maximumFractionDigits: 2 });
    for (let value = 0.25; value < 1e12; value *= 3.7) {
      const exact = Math.round(value * 20) / 20;
      expect(price(exact)).toBe(locale.format(exact));
      expect(price(-exact)).toBe(locale.format(-exact));
    }
  });

  it('shows unknown as a dash, never as zero', () => {
    for (const write of [price, signed, percent, whole, compact, signedCompact, age]) expect(write(NaN)).toBe(DASH);
    expect(clock(0)).toBe(DASH);
    expect(price(0)).toBe('0.00');
  });

  it('puts a sign on what is coloured and none on zero', () => {
    expect(signed(1.5)).toBe('+1.50');
    expect(signed(-1.5)).toBe('-1.50');
    expect(signed(0)).toBe('0.00');
    expect(signed(0.001)).toBe('0.00');
    expect(signed(-0.001)).toBe('0.00');
    expect([1.5, -1.5, 0.001, -0.001, NaN].map((value) => tone(signed(value)))).toEqual(['up', 'down', '', '', '']);
    expect(percent(0.42)).toBe('+0.42%');
  });

  it('writes lakh and crore', () => {
    expect(compact(13_21_000)).toBe('13.21 L');
    expect(compact(1_33_00_000)).toBe('1.33 Cr');
    expect(compact(93_525)).toBe('93,525');
    expect(signedCompact(-3_75_498)).toBe('-3.75 L');
    expect(signedCompact(3_75_498)).toBe('+3.75 L');
  });

  it('never rounds a strike', () => {
    expect(strike(25_000)).toBe('25000');
    expect(strike(238.75)).toBe('238.75');
  });
});

describe('times', () => {
  it('tells Indian time whatever the zone of the browser', () => {
    expect(clock(Date.UTC(2026, 1, 3, 10, 0, 5))).toBe('15:30:05');
    expect(clock(Date.UTC(2026, 1, 3, 18, 0), false)).toBe('23:30');
  });

  it('names the day where it is another', () => {
    const friday = Date.UTC(2026, 1, 6, 11, 0);
    expect(moment(Date.UTC(2026, 1, 6, 18, 0), friday)).toBe('23:30');
    expect(moment(Date.UTC(2026, 1, 9, 3, 45), friday)).toBe('9 Feb 09:15');
    expect(moment(Date.UTC(2026, 1, 9, 3, 45), NaN)).toBe('09:15');
    expect([moment(NaN, friday), moment(0, friday)]).toEqual([DASH, DASH]);
  });

  it('tells ages in the unit a person would', () => {
    expect(age(340)).toBe('0.3 s');
    expect(age(47_900)).toBe('47 s');
    expect(age(125_000)).toBe('2 min');
    expect(age(-1)).toBe(DASH);
  });
});
