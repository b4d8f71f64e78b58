"""How the cost of an object grows: with rows, trees, depth, threads and missing values; and the memory it takes meanwhile."""

import ctypes
import gc
import tracemalloc
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.forest_data import WAVELENGTH
from benchmarks.forest_models import GRID_POINTS, Size, Trained, inference, trained
from benchmarks.rates import Work, costs
from benchmarks.report import Result
from models.forest.inference import Inference
from schemas.batch import Float32

ROWS = 200_000  # of each case
BATCHES = (1, 10, 100, 1_000, 10_000, 100_000, 1_000_000)
FEWEST = 2_000  # rows that time small batches
TREES = (25, 50)
DEPTHS = ("rfd6", "rfd10", "rfd14")  # beside the one that is as deep as its leaves allow
BANDS = len(WAVELENGTH)
WITHOUT = 1 / 3  # of the rows lack whole bands
MB = 1e6


def run(name: str, forest: Trained, ours: Inference, rows: Float32, size: Size, console: Console) -> list[Result]:
    """All cases, of the forest `name`."""
    some = rows[:ROWS]
    pdf = np.empty((len(rows), GRID_POINTS), np.float32)
    pdf[:] = 0.0  # its pages are there before any clock starts
    results = _by_rows(name, ours, rows, pdf, size, console)
    results += costs(
        {
            f"{name} {what}, {threads} threads, {len(rows):,} rows": (work, rows)
            for threads in (1, 2)
            for what, work in _both(ours, pdf, threads).items()
        },
        size.repeats,
        console,
    )
    patterns = {"nothing missing": some, "a tenth of the values missing": at_random(some)}
    patterns[f"bands missing in {WITHOUT:.0%} of the rows"] = whole_bands(some)
    results += _in_turn({f"{name}, {pattern}": (ours, x) for pattern, x in patterns.items()}, pdf, size, console)

    fewer: dict[str, tuple[Inference, Float32]] = {
        f"{name}, {count} trees": (inference(forest.fewer(count)), some) for count in TREES
    }
    count = len(forest.model.estimators_)
    results += _in_turn(fewer | {f"{name}, {count} trees": (ours, some)}, pdf, size, console)
    shallow: dict[str, tuple[Inference, Float32]] = {}
    for other in DEPTHS:
        console.print(f"{other}: training, or reading what was trained before")
        shallow[f"depth {other.removeprefix('rfd')}"] = (inference(trained(other, size)), some)
    results += _in_turn(shallow | {"depth as the leaves allow": (ours, some)}, pdf, size, console)
    held: dict[str, Callable[[], Any]] = {
        f"{name} {what}, {len(rows):,} rows, {threads} threads": partial(work, rows)
        for threads in (1, 2)
        for what, work in _both(ours, pdf, threads).items()
    }
    return results + memory(held, console)


def _both(of: Inference, pdf: Float32, threads: int = 1) -> dict[str, Work]:
    """A point estimate, and a finished PDF with all its points."""
    map_of_row = np.zeros(len(pdf), np.int32)
    return {
        "point": lambda x: of.predict(x, threads),
        "PDF": lambda x: of.pdfs(x, map_of_row[: len(x)], pdf[: len(x)], threads),
    }


def _in_turn(of: dict[str, tuple[Inference, Float32]], pdf: Float32, size: Size, console: Console) -> list[Result]:
    cases = {f"{case}: {what}": (work, x) for case, (one, x) in of.items() for what, work in _both(one, pdf).items()}
    return costs(cases, size.repeats, console)


def _by_rows(name: str, ours: Inference, rows: Float32, pdf: Float32, size: Size, console: Console) -> list[Result]:
    """What a row costs in batches of so many."""

    def batches(work: Work, batch: int, x: Float32) -> None:
        for first in range(0, len(x), batch):
            work(x[first : first + batch])

    cases: dict[str, tuple[Work, Float32]] = {
        f"{name} {what}, batches of {batch:,}": (partial(batches, work, batch), rows[: max(batch, FEWEST)])
        for batch in BATCHES
        if batch <= len(rows)
        for what, work in _both(ours, pdf).items()
    }
    return costs(cases, size.repeats, console)


def at_random(x: Float32) -> Float32:
    """A tenth of all values taken away."""
    holes = x.copy()
    holes[np.random.default_rng(0).random(x.shape) < 0.1] = np.nan
    return holes


def whole_bands(x: Float32) -> Float32:
    """As surveys have it: a third of the rows lack one or two bands, and so those magnitudes and every colour with them."""
    rng = np.random.default_rng(0)
    n = len(x)
    lacks = np.zeros((n, BANDS), np.bool_)
    rows = np.flatnonzero(rng.random(n) < WITHOUT)
    for _ in range(2):  # the same band twice is one band
        lacks[rows, rng.integers(0, BANDS, len(rows))] = True
    holes = x.copy()
    holes[:, :BANDS][lacks] = np.nan
    holes[:, BANDS : 2 * BANDS - 1][lacks[:, :-1] | lacks[:, 1:]] = np.nan
    return holes


def memory(works: Mapping[str, Callable[[], Any]], console: Console) -> list[Result]:
    """The most that is held beside what goes in and what comes out."""
    results = []
    for what, work in works.items():
        for how, measure in (("tracemalloc", traced), ("resident", resident)):
            held = measure(work)
            if held is None:
                continue
            case = f"{what}: temporary memory ({how})"
            console.print(f"{case}: {held / MB:.1f} MB", soft_wrap=True)
            results.append(Result(case, held / MB, "MB", higher_is_better=False))
    return results


def traced(work: Callable[[], Any]) -> float:
    """Bytes that Python and NumPy held at most during `work`, but for what it gave back."""
    gc.collect()
    tracemalloc.start()
    try:
        given = work()
        held, peak = tracemalloc.get_traced_memory()
        del given
    finally:
        tracemalloc.stop()
    return peak - held


def resident(work: Callable[[], Any]) -> float | None:
    """The same by the kernel's account of the process, which knows what compiled code took; None where there is none."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)  # what was freed goes back, so that taking it again counts
        Path("/proc/self/clear_refs").write_text("5")  # sets the peak back to what is held now
    except (OSError, AttributeError):
        return None
    before = _peak()
    given = work()
    peak = _peak()
    arrays = given if isinstance(given, tuple) else (given,)
    return max(peak - before - sum(array.nbytes for array in arrays), 0)


def _peak() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
