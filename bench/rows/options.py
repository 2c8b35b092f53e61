"""P14: volatility and Greeks of many options at once, in process."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from vollib.black.greeks.analytical import delta, gamma, theta, vega
from vollib.black.implied_volatility import implied_volatility

from app.analytics import black76
from app.analytics.chain import MS_A_YEAR, ChainInput, Side, analyse
from bench.figures import Figure, p50
from bench.world import World

NOW_MS = 1_770_105_600_000
EXPIRY_MS = NOW_MS + 23 * 86_400_000
STRIKES = 101
RATE = 0.065
DIRTY_CHAINS = 40  # a busy tenth of a second: every index chain on screen


def _chain(number: int) -> ChainInput:
    rng = np.random.default_rng(number)
    level = 500.0 * (1 + number % 50)
    strikes = level * (0.9 + 0.2 * np.arange(STRIKES) / (STRIKES - 1))
    life = (EXPIRY_MS - NOW_MS) / MS_A_YEAR
    sides = []
    for is_call in (True, False):
        sigma = 0.14 + 0.4 * np.log(strikes / level) ** 2
        price = np.maximum(0.05, black76.price(level, strikes, life, sigma, RATE, is_call))
        oi, volume = rng.integers(0, 1_000_000, (2, STRIKES)).astype(float)
        sides.append(Side(price, price * 0.998, price * 1.002, oi, volume, np.zeros(STRIKES, dtype=np.bool_)))
    return ChainInput(strikes, sides[0], sides[1], level, level, EXPIRY_MS)


def _cpu_ms(work: Callable[[], object], rounds: int) -> float:
    taken = []
    for _ in range(rounds):
        began = time.thread_time()
        work()
        taken.append((time.thread_time() - began) * 1000)
    return p50(taken)


def options(world: World) -> list[Figure]:
    """P14."""
    rounds = 5 if world.quick else 50
    everything = [_chain(number) for number in range(-(-25_000 // (2 * STRIKES)))]
    figures = []
    a_scalar = _scalar_us(everything[0])
    for count, target in ((8_500, 4.0), (25_000, 12.0)):
        some = everything[: -(-count // (2 * STRIKES))]
        options_in = 2 * STRIKES * len(some)
        ms = _cpu_ms(lambda some=some: analyse(some, NOW_MS), rounds)
        ratio = a_scalar * options_in / 1000 / ms
        what = f"IV, Greeks and summary of {options_in:,} options"
        figures.append(Figure("P14", what, ms, "ms", target, ratio=ratio, peer="the same, option by option"))
    dirty = everything[:DIRTY_CHAINS]
    share = _cpu_ms(lambda: analyse(dirty, NOW_MS), rounds) * 10 / 1000 * 100
    what = f"the dirty ones at 10 Hz ({2 * STRIKES * DIRTY_CHAINS:,} options each time)"
    return [*figures, Figure("P14", what, share, "% of a core", 5.0)]


def _scalar_us(chain: ChainInput) -> float:
    """Microseconds an option if each is solved alone by vollib, as the usual terminal does."""
    life = (EXPIRY_MS - NOW_MS) / MS_A_YEAR
    began = time.thread_time()
    for strike, call, put in zip(
        chain.strikes.tolist(), chain.calls.ltp.tolist(), chain.puts.ltp.tolist(), strict=True
    ):
        flag, price = ("c", call) if strike >= chain.future else ("p", put)
        sigma = implied_volatility(price, chain.future, strike, RATE, life, flag)
        for greek in (delta, gamma, theta, vega):
            greek(flag, chain.future, strike, life, RATE, sigma)
    return (time.thread_time() - began) * 1e6 / len(chain.strikes)
