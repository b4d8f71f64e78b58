"""Looks at broker and table, again and again, and says how each partition stands."""

import time
from collections.abc import Callable, Collection, Iterable, Mapping

import numpy as np

from schemas.batch import Float64
from schemas.errors import UserError
from streamer.catalogue import Catalogue
from streamer.lag.broker import PATIENCE, BrokerReading, Log
from streamer.lag.front import Fronts
from streamer.lag.looks import Looks
from streamer.lag.readers import Reader, Who
from streamer.lag.reckoning import standings, without
from streamer.lag.stand import Key, Stand
from streamer.lag.standing import Standing
from streamer.lag.table import TableReading

WINDOW = 300.0  # seconds of earlier looks from which rates are taken
GONE = (
    86_400.0  # seconds for which a topic that is no more is told of: a stream of alerts may have a new one each night
)
AGAIN = 600.0  # seconds after which such a topic is asked for again: a model that reads it anew is seen at once
FRONT_SECONDS = 1.0  # a look spends on first messages at most


class NothingRead(UserError):
    """No model has read anything yet, or nothing of what was asked for: there is nothing that could lag."""


class Watch:
    """How every model stands on every topic it reads, or on one.

    A first look has no window of its own: it takes rates from the times of the table's commits and from where the log ended
    some time ago by the messages' own times. After a minute only what was seen counts.

    Parameters
    ----------
    catalogue
        What is durable. The watch follows it: it need not be opened again.
    brokers, kafka
        The cluster, and further settings of the client.
    topic, model
        Only these; a model by its name or processing id. None is all that the catalogue reads.
    window
        Seconds of earlier looks that rates and rules see.
    clock
        Seconds since 1970 UTC.
    patience
        Seconds that a broker may take to answer.
    reading
        Seconds that a look may spend on first messages: what was not read by then is told without.

    Raises
    ------
    UserError
        A setting that the client does not know.

    Notes
    -----
    All calls from one thread at a time. A look costs what moved since the last: 1,000 partitions read by three models are a
    few hundredths of a core at one look each five seconds (docs/lag.md).
    """

    def __init__(
        self,
        catalogue: Catalogue,
        brokers: str,
        kafka: Mapping[str, str] | None = None,
        topic: str | None = None,
        model: str | None = None,
        window: float = WINDOW,
        clock: Callable[[], float] = time.time,
        patience: float = PATIENCE,
        reading: float = FRONT_SECONDS,
    ) -> None:
        self._topic, self._model, self._clock = topic, model, clock
        self._broker = BrokerReading(brokers, kafka, patience)
        self._table = TableReading(catalogue, topic, model)
        self._looks = Looks(window, self._table, self._broker.offsets)
        self._fronts = Fronts(lambda asked: self._broker.fronts(asked, reading))
        self._ids: dict[str, str] = {}
        self._there: dict[str, float] = {}  # when each topic was seen last
        self._gone: dict[str, float] = {}  # when a topic that is gone for a day was asked for last
        self._unread: dict[Key, int] = {}  # lag when each partition was seen last
        self._readers: dict[Who, Reader] = {}  # at the last look

    def look(self) -> list[Standing]:
        """One look: a standing for each partition that the broker has or a model has read, sorted.

        Left out are readers that a person has retired, what is read of other clusters, and topics that are gone: at once where
        they were read to their ends, else after a day. `topic` tells of a topic in any case.

        Raises
        ------
        TroubleError
            The broker or the table does not answer. The caller says so and looks again later.
        NothingRead
            Nothing was ever read into this catalogue, or not from `topic` or by `model`.
        Refused
            The broker does not let us ask.
        """
        self._table.refresh()  # before the ends: a reader is then never ahead of them
        if not self._table.durable:
            of = f" from the topic {self._topic}" if self._topic else ""
            by = f" by the model {self._model}" if self._model else ""
            raise NothingRead(f"{self._table.root} has read nothing{of}{by} yet.")
        mine = _of_cluster(self._table.positions(), self._broker.cluster_id())
        lately = {reader.topic for reader in mine if self._lately(self._clock(), reader)}
        logs = self._broker.logs(lately | self._due(mine))
        now = self._clock()
        mine = {reader: durable for reader, durable in mine.items() if reader.topic in logs}
        self._readers = {reader.who: reader for reader in mine}
        self._recognise(now, logs)
        self._let_go(now, {topic for topic, log in logs.items() if log is None} - lately)
        stands, lost = _sides(mine, logs)
        self._looks.record(now, stands)
        before = self._looks.passed([stand.next for stand in stands]).before
        self._fronts.refresh(stands, (~np.isnan(before)).tolist())
        rows = standings(now, stands, logs, self._looks, self._fronts)
        self._unread |= {stand.key: row.lag or 0 for stand, row in zip(stands, rows, strict=True)}
        lost = [key for key in lost if logs[key[0].topic] is not None or self._missed(now, key)]
        rows += [without(reader, p, mine[reader].get(p), logs[reader.topic]) for reader, p in lost]
        return sorted(rows, key=lambda row: (row.topic, row.model, row.partition))

    def lags(self, row: Standing) -> Float64:
        """How many offsets of this partition were to be read at earlier looks of the window, oldest first."""
        reader = self._readers.get((row.processing_id, row.topic_id))
        if reader is None:  # retired since
            return np.zeros(0)
        return self._looks.lags(self._clock(), (row.topic, row.partition), (reader, row.partition))

    @property
    def retired(self) -> list[Reader]:
        """Readers that a person has retired, which the last look left out."""
        return self._table.retired

    def close(self) -> None:
        """Let go of the connections."""
        self._broker.close()

    def _recognise(self, now: float, logs: Mapping[str, Log | None]) -> None:
        for topic, log in logs.items():
            if log is not None:
                self._there[topic] = now
                self._gone.pop(topic, None)
                if self._ids.get(topic, log.topic_id) != log.topic_id:
                    self._looks.forget((topic, p) for p in log.ends)
                self._ids[topic] = log.topic_id

    def _lately(self, now: float, reader: Reader) -> bool:
        """Whether a topic was asked for, or was there or read a day ago or less."""
        last = max(self._there.get(reader.topic, 0.0), self._table.alive.get(reader, 0.0))
        return self._topic is not None or now - last < GONE

    def _missed(self, now: float, key: Key) -> bool:
        """Whether a partition of a topic that is no more is worth a word: what was read to its end may go."""
        return self._topic is not None or (self._unread.get(key) != 0 and self._lately(now, key[0]))

    def _due(self, readers: Iterable[Reader]) -> set[str]:
        """Topics that are to be asked for, though they were gone for a day when that was done last."""
        now = self._clock()
        return {reader.topic for reader in readers if now - self._gone.get(reader.topic, -AGAIN) >= AGAIN}

    def _let_go(self, now: float, topics: Collection[str]) -> None:
        """Forget topics that are gone for a day: there may be a new one each night."""
        for topic in topics:
            self._gone[topic] = now
            self._there.pop(topic, None)
            self._ids.pop(topic, None)
        old = {reader for reader in self._readers.values() if reader.topic in topics}
        self._looks.leave(old)
        self._table.let_go(old)
        if any(key[0].topic in topics for key in self._unread):
            self._unread = {key: lag for key, lag in self._unread.items() if key[0].topic not in topics}


def _of_cluster(mine: Mapping[Reader, dict[int, int]], cluster_id: str) -> dict[Reader, dict[int, int]]:
    """Those that read this cluster: a catalogue may have moved to it from another one, or be read of two.

    Where none does, all are compared, each topic as it was bound last: it may be the wrong cluster, which a person must hear of.
    """
    here = {reader: durable for reader, durable in mine.items() if reader.cluster_id == cluster_id}
    if here:
        return here
    newest = {(reader.processing_id, reader.topic): reader for reader in mine}  # the last one stays
    return {reader: mine[reader] for reader in newest.values()}


def _sides(mine: Mapping[Reader, Mapping[int, int]], logs: Mapping[str, Log | None]) -> tuple[list[Stand], list[Key]]:
    """Partitions of which both sides are known, and those that the broker does not know, or not as they were read."""
    stands, lost = [], []
    for reader, durable in mine.items():
        log = logs[reader.topic]
        if log is None or log.topic_id != reader.topic_id:
            lost += [(reader, p) for p in durable]
            continue
        for p in durable.keys() | log.ends.keys():
            if p in log.ends:
                stands.append(Stand((reader, p), log.starts[p], durable.get(p), log.ends[p]))
            else:
                lost.append((reader, p))
    return stands, lost
