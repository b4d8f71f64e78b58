"""From what is known of partitions to how each stands: its numbers, and the verdict on them."""

from collections.abc import Mapping, Sequence

import numpy as np

from schemas.batch import Float64
from streamer.lag import measures
from streamer.lag.broker import Log, Retention
from streamer.lag.front import Front, Fronts
from streamer.lag.looks import Looks
from streamer.lag.measures import Leap, Passage
from streamer.lag.readers import Reader
from streamer.lag.rules import Glance, judge
from streamer.lag.stand import Stand
from streamer.lag.standing import Standing

RECORD = 70  # bytes that a message takes in the log beside payload and key: an upper bound


def standings(
    now: float, stands: Sequence[Stand], logs: Mapping[str, Log | None], looks: Looks, fronts: Fronts
) -> list[Standing]:
    """How each of `stands` stands, which are those of the last look, in their order."""
    kept = {topic: log.retention if log is not None else None for topic, log in logs.items()}
    found = [fronts.of(stand) for stand in stands]
    firsts = [s.next if front is None else max(s.next, front.first) for s, front in zip(stands, found, strict=True)]
    silent = {reader: looks.silent(now, reader) for reader in {stand.key[0] for stand in stands}}
    trends, seen = looks.trends(now), looks.passed(firsts)
    passages = zip(*(_known(times) for times in seen), strict=True)
    leaps: Sequence[Leap | None] = [None] * len(stands)
    if None in kept.values():
        last, speed, greatest = looks.leaps()
        leaps = [Leap(*one) for one in zip(last.tolist(), _known(speed), greatest.tolist(), strict=True)]
    lines = zip(
        stands, found, firsts, passages, leaps, _known(trends.produce), _known(trends.consume), trends.fell.tolist(),
        trends.ahead.tolist(), trends.quiet.tolist(), _known(trends.ended), trends.end.tolist(), strict=True,
    )  # fmt: skip
    rows = []
    for stand, front, first, passage, leap, produce, consumed, fell, ahead, quiet, ended, end in lines:
        (reader, _), lag = stand.key, max(stand.end - first, 0)
        consume = consumed if stand.durable is not None else 0.0
        old: float | None = 0.0
        loss: float | None = measures.INFINITE
        size = fronts.size(reader.topic) if lag else None
        if lag:
            guess = _guess(fronts.older(stand), first, ended, end)
            old = measures.age(now, Passage(*passage), front, guess)
            came = front.stamp if front is not None and front.stamp is not None else None if old is None else now - old
            stored = None if size is None else size + RECORD
            loss = measures.loss(now, came, first, stand.end, leap, kept[reader.topic], stored, produce)
        start = stand.start  # what went before it may have held no message: a marker, what was aborted
        if stand.durable is not None and start > stand.durable:
            if fronts.nothing_lost(stand):
                start = stand.durable
            else:
                loss = 0.0
        glance = Glance(
            start=start,
            durable=stand.durable,
            end=stand.end,
            lag=lag,
            lag_seconds=old,
            produce_rate=produce,
            consume_rate=consume,
            drain_seconds=measures.drain(lag, old, produce, consume),
            loss_seconds=loss,
            retention=_seconds(kept[reader.topic]),
            fell=fell,
            grew=lag > ahead >= 0,
            quiet=quiet if lag else None,
            silent=silent[reader] if lag else None,
        )
        rows.append(_row(stand, glance, 0 if not lag else None if size is None else round(lag * size)))
    return rows


def without(reader: Reader, partition: int, durable: int | None, log: Log | None) -> Standing:
    """A partition of which the broker tells nothing that could be compared."""
    glance = Glance(there=log is not None, same=log is None or log.topic_id == reader.topic_id, durable=durable)
    return _standing(reader, partition, None, glance, None)


def _row(stand: Stand, glance: Glance, size: int | None) -> Standing:
    return _standing(*stand.key, stand.start, glance, size)


def _standing(reader: Reader, partition: int, start: int | None, glance: Glance, size: int | None) -> Standing:
    verdict = judge(glance)
    return Standing(
        topic=reader.topic,
        topic_id=reader.topic_id,
        partition=partition,
        model=reader.model,
        processing_id=reader.processing_id,
        start=start,
        durable=glance.durable,
        end=glance.end,
        lag=glance.lag,
        lag_bytes=size,
        lag_seconds=glance.lag_seconds,
        produce_rate=glance.produce_rate,
        consume_rate=glance.consume_rate,
        drain_seconds=glance.drain_seconds,
        loss_seconds=glance.loss_seconds,
        status=verdict.status,
        rule=verdict.rule,
        why=verdict.why,
    )


def _guess(front: Front | None, first: int, ended: float | None, end: int) -> float | None:
    """When the message at `first` came, from the last front that was asked for, and the first end that was seen."""
    if front is None or front.stamp is None or ended is None or first >= end:
        return None
    share = (first - front.first) / (float(end) - front.first)
    return front.stamp + share * max(0.0, ended - front.stamp)


def _known(numbers: Float64) -> list[float | None]:
    """As numbers of Python, None for NaN."""
    if not np.isnan(numbers).any():
        return list(numbers.tolist())
    return [None if number != number else number for number in numbers.tolist()]


def _seconds(kept: Retention | None) -> float | None:
    return kept.seconds if kept is not None else None
