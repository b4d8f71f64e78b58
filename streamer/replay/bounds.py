"""Which offsets a replay reads: fixed when it begins."""

import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from schemas.errors import UserError
from schemas.night import Rollover
from streamer.sink.datasets import dataset
from streamer.source.connection import LogEnds, Start, TopicIdentity, parse_start

MARGIN = timedelta(hours=6)  # around a night of which no row says which offsets it has
LATE = timedelta(days=1)  # after its end a night is over; what comes later are late alerts, one by one

Bounds = dict[int, tuple[int, int]]


class Asked(NamedTuple):
    """What a person asked for: a night, or times, or offsets.

    Attributes
    ----------
    night
        YYYY-MM-DD.
    since, until
        ISO times of Kafka's clock, the second not included; one may be missing.
    offsets
        ``P:A-B``: partition, first and last offset.
    """

    night: str | None = None
    since: str | None = None
    until: str | None = None
    offsets: tuple[str, ...] = ()

    def checked(self) -> "Asked":
        """This, where it is one of the three.

        Raises
        ------
        UserError
            It is none or several of them, or not what it should look like.
        """
        kinds = (self.night is not None) + (self.since is not None or self.until is not None) + bool(self.offsets)
        if kinds != 1:
            raise UserError("What is to be replayed? Say one of --night, --from and --to, or --offsets.")
        if self.night is not None:
            _date(self.night)
        for text, flag in ((self.since, "--from"), (self.until, "--to")):
            if text is not None:
                _time(text, flag)
        parse_offsets(self.offsets)
        return self


class Found(NamedTuple):
    """What is read.

    Attributes
    ----------
    bounds
        [start, end) by partition.
    late
        Rows of the night that came so late that they are outside.
    cut
        Partitions whose log begins after the time that was asked for: nobody can say which of the offsets before belong to it.
    """

    bounds: Bounds
    late: int = 0
    cut: tuple[int, ...] = ()


def parse_offsets(texts: tuple[str, ...]) -> Bounds:
    """Parse ``P:A-B`` to half-open bounds.

    Raises
    ------
    UserError
        One is not of that form, ends before it begins, or names a partition twice.
    """
    out: Bounds = {}
    for text in texts:
        found = re.fullmatch(r"(\d+):(\d+)-(\d+)", text)
        if not found:
            raise UserError(f"--offsets {text}: say PARTITION:FIRST-LAST, such as 0:1200-1999.")
        p, first, last = map(int, found.groups())
        if last < first:
            raise UserError(f"--offsets {text}: the last offset is before the first.")
        if p in out:
            raise UserError(f"--offsets names partition {p} twice: run them one after the other.")
        out[p] = (first, last + 1)
    return out


def find(asked: Asked, root: Path, topic: TopicIdentity, ends: LogEnds, rule: Rollover) -> Found:
    """Bounds by partition; partitions without anything are left out.

    Parameters
    ----------
    asked
        What a person said.
    root
        The catalogue.
    topic, ends
        The topic, and where its logs begin and end.
    rule
        When the survey's night changes its name.

    Raises
    ------
    UserError
        A partition does not exist, or does not reach so far.
    """
    partitions = list(range(topic.partitions))
    latest = ends.latest(partitions)
    if asked.offsets:
        bounds = parse_offsets(asked.offsets)
        for p, (_, end) in bounds.items():
            if p not in latest:
                raise UserError(f"--offsets: {topic.topic} has partitions 0 to {topic.partitions - 1}, no {p}.")
            if end > latest[p]:
                last = f"its last offset is {latest[p] - 1}" if latest[p] else "it is empty"
                raise UserError(f"--offsets: partition {p} of {topic.topic} does not reach {end - 1}: {last}.")
        return Found(bounds)
    since: datetime | None
    until: datetime | None
    if asked.night is not None:
        begin, over = window(asked.night, rule)
        found = _of_rows(root, topic, asked.night, over + LATE)
        if found.bounds:
            return found
        since, until = begin - MARGIN, over + MARGIN
    else:
        since = _time(asked.since, "--from") if asked.since is not None else None
        until = _time(asked.until, "--to") if asked.until is not None else None
    earliest = ends.earliest(partitions)
    low = ends.at(partitions, _start(since)) if since is not None else dict.fromkeys(partitions, 0)
    high = ends.at(partitions, _start(until)) if until is not None else latest
    bounds = {p: (low[p], min(high[p], latest[p])) for p in partitions if low[p] < min(high[p], latest[p])}
    return Found(bounds, cut=tuple(p for p in partitions if since is not None and low[p] == earliest[p] > 0))


def window(night: str, rule: Rollover) -> tuple[datetime, datetime]:
    """When `night` begins and ends, UTC."""
    first = datetime.combine(_date(night), datetime.min.time(), UTC) + timedelta(hours=rule.hours)
    return first, first + timedelta(days=1)


def _of_rows(root: Path, topic: TopicIdentity, night: str, over: datetime) -> Found:
    """From the first to the last row of `night`, of any model, that came before `over`."""
    rows = dataset(DeltaTable(str(root / "rows")), root / "rows")
    columns = ["kafka_partition", "kafka_offset", "kafka_timestamp"]
    where = (pc.field("night") == night) & (pc.field("topic_id") == topic.topic_id)
    out: Bounds = {}
    late = 0
    for batch in rows.to_batches(columns=columns, filter=where):
        stamps = batch["kafka_timestamp"]
        early = pc.fill_null(pc.less(stamps, pa.scalar(over, stamps.type)), True)
        kept = pa.Table.from_batches([batch]).filter(early)
        late += len(batch) - len(kept)
        spans = kept.group_by("kafka_partition").aggregate([("kafka_offset", "min"), ("kafka_offset", "max")])
        names = ("kafka_partition", "kafka_offset_min", "kafka_offset_max")
        for p, low, high in zip(*(spans[name].to_pylist() for name in names), strict=True):
            a, b = out.get(p, (low, high + 1))
            out[p] = (min(a, low), max(b, high + 1))
    return Found(out, late)


def _date(night: str) -> date:
    try:
        return date.fromisoformat(night)
    except ValueError:
        raise UserError(f"--night {night}: say the date that names the night, such as 2026-01-31.") from None


def _time(text: str, flag: str) -> datetime:
    try:
        start = parse_start(text)
    except UserError:
        start = Start("none")
    if start.kind != "time":
        raise UserError(f"{flag} {text}: say a time such as 2026-01-31T21:00Z.")
    return datetime.fromtimestamp(int(start.value) / 1000, UTC)


def _start(when: datetime) -> Start:
    return Start("time", str(int(when.timestamp() * 1000)))
