"""Looks at broker and table, again and again, and says how each partition stands."""

import time
from collections.abc import Callable, Mapping

from schemas.errors import UserError
from streamer.catalogue import Catalogue, open_catalogue
from streamer.lag.broker import PATIENCE, BrokerReading, Log
from streamer.lag.readers import Reader, durable_offsets
from streamer.lag.standing import Standing, Status
from streamer.source.connection import NoTopic

WINDOW = 300.0  # seconds of earlier looks from which rates are taken
INFINITE = float("inf")


class Watch:
    """How every model stands on every topic it reads, or on one.

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
        self._root, self._topic, self._window, self._clock = catalogue.root, topic, window, clock
        self._broker = BrokerReading(brokers, kafka, patience)

    def look(self) -> list[Standing]:
        """One look: a standing for each partition that the broker has or a model has read, sorted.

        Raises
        ------
        TroubleError
            The broker or the table does not answer. The caller says so and looks again later.
        UserError
            Nothing was ever read into this catalogue, or not from `topic`.
        """
        durable = durable_offsets(open_catalogue(self._root), self._topic)
        if not durable:
            of = f" from the topic {self._topic}" if self._topic else ""
            raise UserError(f"{self._root} has read nothing{of} yet.")
        logs: dict[str, Log | None] = {}
        for topic in sorted({reader.topic for reader, _ in durable}):
            try:
                logs[topic] = self._broker.log(topic)
            except NoTopic:
                logs[topic] = None
        out = []
        for reader in {reader for reader, _ in durable}:
            mine = {p: offset for (who, p), offset in durable.items() if who == reader}
            out += _standings(reader, mine, logs[reader.topic])
        return sorted(out, key=lambda row: (row.topic, row.model, row.partition))


def _standings(reader: Reader, durable: dict[int, int], log: Log | None) -> list[Standing]:
    same = log is not None and log.topic_id == reader.topic_id
    starts, ends = (log.starts, log.ends) if log is not None and same else ({}, {})
    out = []
    for p in sorted(durable.keys() | ends.keys()):
        at, start, end = durable.get(p), starts.get(p), ends.get(p)
        lag = None if end is None else max(end - max(at or 0, start or 0), 0)
        caught_up = lag == 0
        status, rule, why = (
            (Status.REWOUND, 1, "the topic was recreated or is gone: a person has to look")
            if end is None
            else (Status.OK, 11, "caught up")
            if caught_up
            else (Status.OK, 12, "it is read as it comes")
        )
        zero = 0.0 if caught_up else None
        out.append(
            Standing(
                topic=reader.topic,
                topic_id=reader.topic_id,
                partition=p,
                model=reader.model,
                processing_id=reader.processing_id,
                start=start,
                durable=at,
                end=end,
                lag=lag,
                lag_bytes=0 if caught_up else None,
                lag_seconds=zero,
                produce_rate=None,
                consume_rate=None,
                drain_seconds=zero,
                loss_seconds=INFINITE if caught_up else None,
                status=status,
                rule=rule,
                why=why,
            )
        )
    return out
