"""Looks at broker and table, again and again, and says how each partition stands."""

import time
from collections.abc import Callable, Mapping

import numpy as np

from schemas.batch import Float64
from schemas.errors import UserError
from streamer.catalogue import Catalogue
from streamer.lag import measures
from streamer.lag.broker import PATIENCE, BrokerReading, Log
from streamer.lag.front import Front, Fronts
from streamer.lag.looks import Looks
from streamer.lag.readers import Reader
from streamer.lag.rules import Glance, judge
from streamer.lag.stand import Key, Stand
from streamer.lag.standing import Standing
from streamer.lag.table import TableReading
from streamer.lag.window import Series

WINDOW = 300.0  # seconds of earlier looks from which rates are taken
GONE = (
    86_400.0  # seconds for which a topic that is no more is told of: a stream of alerts may have a new one each night
)
FRONT_SECONDS = 1.0  # a look spends on first messages at most
RECORD = 70  # bytes that a message takes in the log beside payload and key: an upper bound


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
    topic
        Only this topic; None is all that the catalogue reads.
    window
        Seconds of earlier looks that rates and rules see.
    clock
        Seconds since 1970 UTC.
    patience
        Seconds that a broker may take to answer.

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
        window: float = WINDOW,
        clock: Callable[[], float] = time.time,
        patience: float = PATIENCE,
    ) -> None:
        self._topic, self._clock = topic, clock
        self._broker = BrokerReading(brokers, kafka, patience)
        self._table = TableReading(catalogue, topic)
        self._looks = Looks(window, self._table, self._broker.offsets)
        self._fronts = Fronts(lambda asked: self._broker.fronts(asked, FRONT_SECONDS))
        self._ids: dict[str, str] = {}
        self._there: dict[str, float] = {}  # when each topic was seen last

    def look(self) -> list[Standing]:
        """One look: a standing for each partition that the broker has or a model has read, sorted.

        Topics that are gone for a day are left out, unless `topic` asks for one.

        Raises
        ------
        TroubleError
            The broker or the table does not answer. The caller says so and looks again later.
        NothingRead
            Nothing was ever read into this catalogue, or not from `topic`.
        Refused
            The broker does not let us ask.
        """
        self._table.refresh()  # before the ends: a reader is then never ahead of them
        durable = dict(self._table.durable)
        if not durable:
            of = f" from the topic {self._topic}" if self._topic else ""
            raise NothingRead(f"{self._table.root} has read nothing{of} yet.")
        mine: dict[Reader, dict[int, int]] = {}
        for (reader, p), offset in durable.items():
            mine.setdefault(reader, {})[p] = offset
        logs = self._broker.logs({reader.topic for reader in mine})
        now = self._clock()
        self._recognise(now, logs)
        stands, lost = _sides(mine, logs)
        self._looks.record(now, stands)
        self._fronts.refresh(stands, lambda stand: self._looks.ends(stand.place).passed(stand.next)[0] is not None)
        rows = [self._standing(now, stand, logs[stand.key[0].topic]) for stand in stands]
        lost = [key for key in lost if logs[key[0].topic] is not None or self._missed(now, key[0])]
        rows += [_without(reader, p, mine[reader].get(p), logs[reader.topic]) for reader, p in lost]
        return sorted(rows, key=lambda row: (row.topic, row.model, row.partition))

    def lags(self, row: Standing) -> Float64:
        """How many offsets of this partition were to be read at earlier looks of the window, oldest first."""
        reader = Reader(row.model, row.processing_id, row.topic, row.topic_id)
        return self._looks.lags(self._clock(), (row.topic, row.partition), (reader, row.partition))

    def close(self) -> None:
        """Let go of the connections."""
        self._broker.close()

    def _recognise(self, now: float, logs: Mapping[str, Log | None]) -> None:
        for topic, log in logs.items():
            if log is not None:
                self._there[topic] = now
                if self._ids.get(topic, log.topic_id) != log.topic_id:
                    self._looks.forget((topic, p) for p in log.ends)
                self._ids[topic] = log.topic_id

    def _missed(self, now: float, reader: Reader) -> bool:
        """Whether a topic that is no more is worth a word: it was asked for, or was read a day ago or less."""
        last = max(self._there.get(reader.topic, 0.0), self._table.alive.get(reader, 0.0))
        return self._topic is not None or now - last < GONE

    def _standing(self, now: float, stand: Stand, log: Log | None) -> Standing:
        (reader, p), looks, front = stand.key, self._looks, self._fronts.of(stand)
        first = stand.next if front is None else max(stand.next, front.first)
        lag = max(stand.end - first, 0)
        ends, produced, consumed = (
            looks.ends(stand.place),
            looks.produced(now, stand.place),
            looks.consumed(now, stand.key),
        )
        produce = produced.rate()
        consume = consumed.rate() if stand.durable is not None else 0.0
        old: float | None = 0.0
        if lag:
            old = measures.age(now, first, ends, front, _guess(self._fronts.older(stand), first, ends))
        drain = measures.drain(lag, old, produce, consume)
        kept = log.retention if log is not None else None
        size = self._fronts.size(reader.topic)
        loss: float | None = measures.INFINITE
        if stand.durable is not None and stand.start > stand.durable:
            loss = 0.0
        elif lag:
            came = front.stamp if front is not None and front.stamp is not None else None if old is None else now - old
            stored = None if size is None else size + RECORD
            loss = measures.loss(now, came, first, stand.end, looks.starts(stand.place), kept, stored, produce)
        verdict = judge(
            Glance(
                start=stand.start,
                durable=stand.durable,
                end=stand.end,
                lag=lag,
                lag_seconds=old,
                produce_rate=produce,
                consume_rate=consume,
                drain_seconds=drain,
                loss_seconds=loss,
                retention=kept.seconds if kept is not None else None,
                fell=consumed.fell(),
                grew=lag > 0 and _grew(produced, consumed, lag),
                quiet=looks.quiet(now, stand.key) if lag else None,
                silent=looks.silent(now, reader) if lag else None,
            )
        )
        return Standing(
            topic=reader.topic,
            topic_id=reader.topic_id,
            partition=p,
            model=reader.model,
            processing_id=reader.processing_id,
            start=stand.start,
            durable=stand.durable,
            end=stand.end,
            lag=lag,
            lag_bytes=0 if not lag else None if size is None else round(lag * size),
            lag_seconds=old,
            produce_rate=produce,
            consume_rate=consume,
            drain_seconds=drain,
            loss_seconds=loss,
            status=verdict.status,
            rule=verdict.rule,
            why=verdict.why,
        )


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


def _without(reader: Reader, partition: int, durable: int | None, log: Log | None) -> Standing:
    """A partition of which the broker tells nothing that could be compared."""
    verdict = judge(Glance(there=log is not None, same=log is None or log.topic_id == reader.topic_id, durable=durable))
    return Standing(
        topic=reader.topic,
        topic_id=reader.topic_id,
        partition=partition,
        model=reader.model,
        processing_id=reader.processing_id,
        start=None,
        durable=durable,
        end=None,
        lag=None,
        lag_bytes=None,
        lag_seconds=None,
        produce_rate=None,
        consume_rate=None,
        drain_seconds=None,
        loss_seconds=None,
        status=verdict.status,
        rule=verdict.rule,
        why=verdict.why,
    )


def _guess(front: Front | None, first: int, ends: Series) -> float | None:
    """When the message at `first` came, from the last front that was asked for, and the first end that was seen."""
    if front is None or front.stamp is None or not len(ends.at) or first >= ends.value[0]:
        return None
    share = (first - front.first) / (float(ends.value[0]) - front.first)
    return front.stamp + share * max(0.0, float(ends.at[0]) - front.stamp)


def _grew(ends: Series, durables: Series, lag: int) -> bool:
    """Whether the backlog is longer than at the first look that knew both."""
    if not len(ends.at) or not len(durables.at):
        return False
    when = max(ends.at[0], durables.at[0])
    first, then = np.searchsorted(ends.at, when), np.searchsorted(durables.at, when)
    if first == len(ends.at) or then == len(durables.at):
        return False
    return bool(lag > max(ends.value[first] - durables.value[then], 0))
