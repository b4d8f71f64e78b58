"""How fast something is: rates and costs of several ways to do the same, measured in turn."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.report import Result, middle
from schemas.batch import Float32

ENOUGH = 0.3  # seconds that make a measurement
MOST_CALLS = 2000

Work = Callable[[Float32], Any]  # what is done to features [n, F]


def rate(work: Work, rows: Float32, batch: int) -> float:
    """Rows per second in batches of `batch`: of the first one if that takes long enough, else of some after it."""
    first = time.perf_counter()
    work(rows[:batch])
    once = time.perf_counter() - first
    if once > ENOUGH:
        return batch / once
    batches = int(np.clip(ENOUGH / max(once, 1e-6), 1, MOST_CALLS))
    starts = [k * batch % max(len(rows) - batch, 1) for k in range(batches)]
    first = time.perf_counter()
    for start in starts:
        work(rows[start : start + batch])
    return batches * batch / (time.perf_counter() - first)


def compared(
    case: str,
    work: dict[str, Work],
    rows: Float32,
    batch: int,
    most: dict[str, int],
    repeats: int,
    console: Console,
) -> Result:
    """Rates of "slipher" and its peers in turn, `repeats` times.

    A peer of which `most` rows are known to take long gets no more than that many at once.
    """
    rates: dict[str, list[float]] = {who: [] for who in work}
    for _ in range(repeats):
        for who, each in work.items():
            rates[who].append(rate(each, rows, min(batch, most.get(who, batch))))
    told = {who: middle(values) for who, values in rates.items()}
    console.print(f"{case}: " + ", ".join(f"{who} {value:,.0f}" for who, (value, _) in told.items()), soft_wrap=True)
    ours, spread = told.pop("slipher")
    return Result(
        case,
        ours,
        "objects/s",
        {k: v[0] for k, v in told.items()},
        spread,
        peer_spreads={k: v[1] for k, v in told.items()},
    )


def costs(cases: Mapping[str, tuple[Work, Float32]], repeats: int, console: Console) -> list[Result]:
    """What each case costs a row of its own features, all rows in one call; the cases in turn, the first round not counted."""
    times: dict[str, list[float]] = {case: [] for case in cases}
    for _ in range(repeats + 1):
        for case, (work, rows) in cases.items():
            first = time.perf_counter()
            work(rows)
            times[case].append((time.perf_counter() - first) / len(rows) * 1e6)
    results = []
    for case, measured in times.items():
        cost, spread = middle(measured[1:])
        console.print(f"{case}: {cost:.3g} us/object", soft_wrap=True)
        results.append(Result(case, cost, "us/object", spread=spread, higher_is_better=False))
    return results
