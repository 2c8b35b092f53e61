"""Per-symbol columns of the snapshot: spelling, display name, what is listed, rank in a search, words of the names."""

from __future__ import annotations

import numpy as np
import polars as pl

from app.market.instrument_master.layout import SEPARATOR, Itype, Lists
from app.market.instrument_master.snapshot import Column

_BITS = {
    Itype.INDEX: Lists.INDEX,
    Itype.EQUITY: Lists.CASH,
    Itype.FUTIDX: Lists.INDEX_DERIVATIVE,
    Itype.OPTIDX: Lists.INDEX_DERIVATIVE,
    Itype.FUTSTK: Lists.STOCK_DERIVATIVE,
    Itype.OPTSTK: Lists.STOCK_DERIVATIVE,
    Itype.FUTCOM: Lists.COMMODITY_DERIVATIVE,
    Itype.OPTFUT: Lists.COMMODITY_DERIVATIVE,
    Itype.FUTCUR: Lists.CURRENCY_DERIVATIVE,
    Itype.OPTCUR: Lists.CURRENCY_DERIVATIVE,
}

_SEARCH_ORDER = (
    Lists.INDEX_DERIVATIVE,
    Lists.STOCK_DERIVATIVE,
    Lists.COMMODITY_DERIVATIVE,
    Lists.INDEX,
    Lists.SHARE,
    Lists.CURRENCY_DERIVATIVE,
)
"""What people look for first; everything else, mostly debt, comes last."""


def symbol_columns(rows: pl.DataFrame) -> dict[str, Column]:
    """From rows in snapshot order. One entry per symbol, in order of the upper-case spelling."""
    is_share = (pl.col("itype") == int(Itype.EQUITY)) & (
        pl.col("type").is_in(["ES", "ETF", "REIT", "InvITU", "EQ"]) | (pl.col("series") == "EQ")
    ).fill_null(False)
    bits = {int(item): int(bit) for item, bit in _BITS.items()}
    table = (
        rows.lazy()
        .with_columns(
            bit=pl.col("itype").replace_strict(bits, return_dtype=pl.UInt8)
            | pl.when(is_share).then(int(Lists.SHARE)).otherwise(0).cast(pl.UInt8)
        )
        .group_by("sym", maintain_order=True)
        .agg(
            pl.col("symbol", "upper", "itype").first(),
            pl.col("name").first().fill_null(""),
            pl.len(),
            pl.col("bit").bitwise_or(),
        )
        .with_row_index("number")
        # Only a spot row has a name of the symbol itself; a contract's name is of that contract.
        .with_columns(name=pl.when(pl.col("itype") <= int(Itype.EQUITY)).then("name").otherwise("symbol"))
        .collect()
    )
    flags = table["bit"].to_numpy()
    starts = np.concatenate((np.zeros(1, np.uint32), np.cumsum(table["len"].to_numpy(), dtype=np.uint32)))
    return {
        "sym_start": starts,
        "sym_flags": flags,
        "sym_rank": _ranks(flags),
        "symbols": _lines(table["symbol"]),
        "sym_names": _lines(table["name"]),
        **_words(table),
    }


def _ranks(flags: Column) -> Column:
    """Place of each symbol among all in a list of search results."""
    group = np.full(flags.size, len(_SEARCH_ORDER), np.int64)
    for place, bit in reversed(list(enumerate(_SEARCH_ORDER))):
        group[(flags & int(bit)) != 0] = place
    order = np.argsort(group, kind="stable")
    ranks = np.empty(flags.size, np.uint32)
    ranks[order] = np.arange(flags.size, dtype=np.uint32)
    return ranks


def _words(table: pl.DataFrame) -> dict[str, Column]:
    """Sorted words of the display names of what people search, and the symbols that have each."""
    words = (
        table.lazy()
        .filter((pl.col("bit") & int(Lists.INDEX | Lists.SHARE)) != 0)
        .select(
            sym="number",
            word=pl.col("name").str.to_uppercase().str.extract_all(r"[A-Z0-9&]{2,}"),
        )
        .explode("word")
        .drop_nulls("word")
        .unique(["word", "sym"])
        .group_by("word")
        .agg(pl.col("sym").sort())
        .sort("word")
        .collect()
    )
    counts = words["sym"].list.len().to_numpy()
    return {
        "words": _lines(words["word"]),
        "word_start": np.concatenate((np.zeros(1, np.uint32), np.cumsum(counts, dtype=np.uint32))),
        "word_sym": words["sym"].explode().to_numpy().astype(np.uint32),
    }


def _lines(texts: pl.Series) -> Column:
    return np.frombuffer(texts.str.join(SEPARATOR).item().encode(), np.uint8)
