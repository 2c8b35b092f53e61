"""Where the pictures of a topic come from. One source per open topic, whatever the rates and formats it is read in."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

import numpy as np

from app.core.errors import TerminalError
from app.core.ids import InstrumentKey
from app.core.instruments import Instrument
from app.market.atm_engine import ChainId
from app.market.live_prices import Depth
from app.market.states import STATES
from app.stream.desk import Desk, OpenChain
from app.stream.face import Face, Rows, about
from app.stream.frames import Doc, Labels
from app.stream.sequence import Picture

PAISA = 0.01


class Source(Protocol):
    """What a topic shows. ``labels`` change only together with the generation of the picture."""

    labels: Labels

    @property
    def chains(self) -> Collection[OpenChain]:
        """The chains to be worked out for it."""
        ...

    @property
    def rows(self) -> Rows:
        """Every row that goes into it, those of its chains too."""
        ...

    def reload(self) -> None:
        """Once a second, and when windows or lists have changed: see whether the rows are still the right ones."""
        ...

    def is_touched(self, since: int) -> bool:
        """Whether the picture may differ from the one of that stamp of the face."""
        ...

    def picture(self) -> Picture: ...

    def close(self) -> None: ...


def _is_fine(instruments: Sequence[Instrument]) -> bool:
    """Whether some tick is no whole number of paise, so that prices need more than hundredths."""
    return any(abs(each.tick / PAISA - round(each.tick / PAISA)) > 1e-6 for each in instruments)


class ChainSource:
    """``chain:``: every leg of the chain's window, subscribed or not, with summary and coverage."""

    def __init__(self, topic: str, topic_id: int, chain: ChainId, desk: Desk, face: Face) -> None:
        self._id = chain
        self._desk = desk
        self._face = face
        self._chain: OpenChain = desk.acquire(chain)
        self.chains = (self._chain,)
        self.labels = self._label(Labels(topic, topic_id))

    @property
    def rows(self) -> Rows:
        return self._chain.held

    def reload(self) -> None:
        if self._chain.generation != self.labels.generation:
            self.labels = self._label(self.labels)

    def is_touched(self, since: int) -> bool:
        is_other = self._chain.generation != self.labels.generation
        return is_other or self._face.is_touched(self._chain.held, since)

    def picture(self) -> Picture:
        self.reload()
        doc = {"summary": self._chain.summary, "coverage": self._chain.coverage}
        return Picture(doc, self._face.values[self._legs], self.labels.generation)

    def close(self) -> None:
        self._desk.release(self._id)

    def _label(self, labels: Labels) -> Labels:
        legs = self._chain.legs.instruments
        pairs = np.stack((self._chain.ce, self._chain.pe), axis=1).ravel()
        self._legs: Rows = pairs[pairs >= 0]
        return Labels(
            topic=labels.topic,
            topic_id=labels.topic_id,
            generation=self._chain.generation,
            tokens=tuple(each.token for each in legs),
            fine=_is_fine(legs),
            about={each.token: about(each) for each in legs},
        )


class RowsSource:
    """``quotes:`` and ``watchlist:``: a list of instruments that may become another; options bring their chain along.

    ``listed`` gives ``{name in the topic: instrument}``.
    """

    def __init__(
        self, topic: str, topic_id: int, listed: Callable[[], Mapping[str, Instrument]], desk: Desk, face: Face
    ) -> None:
        self._listed = listed
        self._desk = desk
        self._face = face
        self._shown: dict[str, Instrument] = {}
        self._rows: Rows = np.empty(0, dtype=np.intp)
        self._chains: dict[ChainId, OpenChain] = {}
        self.labels = Labels(topic, topic_id, generation=-1)
        self.reload()

    @property
    def chains(self) -> Collection[OpenChain]:
        return self._chains.values()

    @property
    def rows(self) -> Rows:
        return np.concatenate((self._rows, *(chain.held for chain in self._chains.values())))

    def reload(self) -> None:
        listed = dict(self._listed())
        if listed == self._shown and self.labels.generation >= 0:
            return
        old_rows, old_chains = self._rows, self._chains
        self._rows = self._face.acquire(list(listed.values()))
        wanted = dict.fromkeys(map(_chain_of, listed.values()))
        self._chains = {chain: held for chain in wanted if chain and (held := self._bring(chain))}
        self._face.release(old_rows)
        for chain in old_chains:
            self._desk.release(chain)
        self._shown = listed
        self.labels = Labels(
            topic=self.labels.topic,
            topic_id=self.labels.topic_id,
            generation=self.labels.generation + 1,
            tokens=tuple(listed),
            fine=_is_fine(list(listed.values())),
            about={name: about(each) for name, each in listed.items()},
        )

    def is_touched(self, since: int) -> bool:
        return self._face.is_touched(self._rows, since)

    def picture(self) -> Picture:
        return Picture({}, self._face.values[self._rows], self.labels.generation)

    def close(self) -> None:
        self._face.release(self._rows)
        for chain in self._chains:
            self._desk.release(chain)

    def _bring(self, chain: ChainId) -> OpenChain | None:
        try:
            return self._desk.acquire(chain)
        except TerminalError:
            return None  # an expiry that is over: its row says so


def _chain_of(instrument: Instrument) -> ChainId | None:
    if instrument.option_type is None or instrument.expiry is None:
        return None
    return ChainId(instrument.symbol, instrument.expiry, instrument.exchange)


class DepthSource:
    """``depth:``: the book of one instrument, five levels a side, with its state. ``listed`` gives the instrument."""

    def __init__(
        self,
        topic: str,
        topic_id: int,
        listed: Callable[[], Instrument],
        face: Face,
        book: Callable[[InstrumentKey], Depth | None],
    ) -> None:
        self.labels = Labels(topic, topic_id)
        self._listed = listed
        self._instrument = listed()
        self._face = face
        self._book = book
        self.chains: tuple[OpenChain, ...] = ()
        self.rows = face.acquire([self._instrument])

    def reload(self) -> None:
        listed = self._listed()
        if listed != self._instrument:
            self.close()
            self._instrument, self.rows = listed, self._face.acquire([listed])

    def is_touched(self, since: int) -> bool:
        return self._face.is_touched(self.rows, since)

    def picture(self) -> Picture:
        book = self._book(self._instrument.key) if self._face.has_slot(self.rows[0]) else None
        state = int(self._face.column(self.rows, "state")[0])
        return Picture(
            {
                "bids": [level._asdict() for level in book.bids] if book else [],
                "asks": [level._asdict() for level in book.asks] if book else [],
                "state": STATES[state],
            }
        )

    def close(self) -> None:
        self._face.release(self.rows)


class StatusSource:
    """``status``: endpoint 6, looked at once a second."""

    def __init__(self, topic: str, topic_id: int, status: Callable[[], Doc]) -> None:
        self.labels = Labels(topic, topic_id)
        self.chains: tuple[OpenChain, ...] = ()
        self.rows: Rows = np.empty(0, dtype=np.intp)
        self._status = status
        self._doc = status()

    def reload(self) -> None:
        self._doc = self._status()

    def is_touched(self, since: int) -> bool:
        return True

    def picture(self) -> Picture:
        return Picture(self._doc)

    def close(self) -> None:
        """Nothing is held."""
