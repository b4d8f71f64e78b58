"""What the page is told, in JSON: numbers, null for what is not known, and "never" where a time is infinite."""

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from schemas.batch import Float32
from streamer.lag.standing import Standing
from streamer.lag.totals import Total, severity
from streamer.monitor.sampler import BROKER, TABLE, Seen
from streamer.monitor.verdict import Verdict

NEVER = "never"
WORST = 12  # partitions that are told with every look
_SECONDS = ("drain_seconds", "loss_seconds")


def dumps(value: Any) -> bytes:
    """As bytes; a NaN in it is an error of ours."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False, ensure_ascii=False).encode()


def state(seen: Seen, verdict: Verdict, every: float, tonight: int, now: float) -> dict[str, Any]:
    """One look: the verdict, each topic and model, and the partitions that are worst."""
    away = {a.who: {"since": a.since, "why": a.why} for a in seen.away}
    bad = sorted((s for s in seen.standings if s.status.rank), key=severity, reverse=True)
    return {
        "number": seen.number,
        "at": seen.at,
        "now": now,
        "every": every,
        "broker": away.get(BROKER),
        "table": away.get(TABLE),
        "verdict": {name: answer._asdict() for name, answer in verdict._asdict().items()},
        "totals": [total(t) for t in seen.totals],
        "worst": [standing(s) for s in bad[:WORST]],
        "bad": len(bad),
        "tonight": tonight,
    }


def total(t: Total) -> dict[str, Any]:
    """A topic and model."""
    counts = {str(status): n for status, n in sorted(t.counts.items(), key=lambda pair: pair[0].rank)}
    return _finite(t._asdict() | {"status": str(t.status), "counts": counts})


def standing(s: Standing) -> dict[str, Any]:
    """A partition."""
    return _finite(s._asdict() | {"status": str(s.status)})


def column(values: Float32) -> list[float | None]:
    """Numbers of a line, null where it has a gap."""
    return [None if v != v else v for v in np.asarray(values, np.float64).round(3).tolist()]


def sorted_by_need(standings: Sequence[Standing]) -> list[Standing]:
    """The worst first; of those that are equal, by number."""
    return sorted(standings, key=lambda s: (*(-x for x in severity(s)), s.partition))


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    for name in _SECONDS:
        if row[name] is not None and math.isinf(row[name]):
            row[name] = NEVER
    return {name: round(value, 3) if isinstance(value, float) else value for name, value in row.items()}
