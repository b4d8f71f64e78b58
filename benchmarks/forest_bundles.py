"""Whole models, from fluxes to estimates: objects a second and core, a single galaxy, and a new process's first estimate."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.forest_growth import memory
from benchmarks.forest_models import GRID_POINTS, Size, dc2_bundle, dc2_galaxies, inference, trained
from benchmarks.report import Result, middle, number
from models import estimator
from models.forest.inference import Inference
from schemas.photometry_table import PhotometryTable

LEARNERS = ("forest", "forest+mlp")
ROWS = 200_000
SINGLES = 2_000  # galaxies asked for one by one
STARTS = 5  # processes


def run(size: Size, console: Console) -> list[Result]:
    """All cases."""
    results = _single_rows("rf5", inference(trained("rf5", size)), size, console)
    console.print("DC2: training, or reading what was trained before")
    bundles = {learner: dc2_bundle(learner) for learner in LEARNERS}
    galaxies = dc2_galaxies(min(ROWS, size.rows))
    models: dict[str, Any] = {learner: estimator.load(path) for learner, path in bundles.items()}
    results += _whole(models, galaxies, size, console)
    arrays = (galaxies.flux, galaxies.flux_err, galaxies.band_state, galaxies.ebv)
    held = {
        f"DC2 {who}, {len(galaxies):,} rows": partial(each.estimate_arrays, *arrays) for who, each in models.items()
    }
    results += memory(held, console)
    return results + [_start(learner, path, console) for learner, path in bundles.items()]


def _told(result: Result, console: Console) -> Result:
    console.print(f"{result.case}: {number(result.ours)} {result.unit}", soft_wrap=True)
    return result


def _one_by_one(work: Callable[[int], Any], repeats: int) -> tuple[float, float]:
    """Median microseconds of a call, of other rows each time, and its spread."""
    medians = []
    for k in range(repeats + 1):
        times = np.empty(SINGLES)
        for row in range(SINGLES):
            first = time.perf_counter()
            work(k * SINGLES + row)
            times[row] = time.perf_counter() - first
        medians.append(float(np.median(times)) * 1e6)
    return middle(medians[1:])


def _single_rows(name: str, ours: Inference, size: Size, console: Console) -> list[Result]:
    """A single row of features."""
    from benchmarks.forest_data import galaxies

    rows, _ = galaxies((size.repeats + 1) * SINGLES, 3)
    pdf, map_of_row = np.empty((1, GRID_POINTS), np.float32), np.zeros(1, np.int32)
    works: dict[str, Callable[[int], Any]] = {
        "point": lambda k: ours.predict(rows[k : k + 1]),
        f"{GRID_POINTS}-point PDF and points": lambda k: ours.pdfs(rows[k : k + 1], map_of_row, pdf),
    }
    results = []
    for what, work in works.items():
        cost, spread = _one_by_one(work, size.repeats)
        result = Result(f"{name} {what}, a single row", cost, "us", spread=spread, higher_is_better=False)
        results.append(_told(result, console))
    return results


def _whole(models: dict[str, Any], galaxies: PhotometryTable, size: Size, console: Console) -> list[Result]:
    """Photometry, PDFs, points, and all flags, on one core."""
    from threadpoolctl import threadpool_limits

    arrays = (galaxies.flux, galaxies.flux_err, galaxies.band_state, galaxies.ebv)
    rates: dict[str, list[float]] = {learner: [] for learner in models}
    results = []
    with threadpool_limits(1):
        for _ in range(size.repeats + 1):
            for learner, model in models.items():
                first = time.perf_counter()
                model.estimate_arrays(*arrays)
                rates[learner].append(len(galaxies) / (time.perf_counter() - first))
        for learner, measured in rates.items():
            rate, spread = middle(measured[1:])
            case = f"DC2 {learner}: fluxes to PDFs, points and flags, {len(galaxies):,} rows, 1 core"
            results.append(_told(Result(case, rate, "objects/s", spread=spread), console))
        for learner, model in models.items():

            def work(k: int, model: Any = model) -> None:
                k %= len(galaxies)
                model.estimate_arrays(*(array[k : k + 1] for array in arrays))

            cost, spread = _one_by_one(work, size.repeats)
            case = f"DC2 {learner}: fluxes to PDF, points and flags, a single galaxy"
            results.append(_told(Result(case, cost, "us", spread=spread, higher_is_better=False), console))
    return results


def _start(learner: str, path: Path, console: Console) -> Result:
    """Seconds from the start of a process to its first estimate; every kernel is in the cache, none may be compiled."""
    command = [sys.executable, "-m", "benchmarks.first_estimate", str(path)]
    times = []
    for start in range(STARTS + 1):
        first = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            process.stdout.readline()
            times.append(time.perf_counter() - first)
            said = process.stdout.read()
        if process.returncode:
            raise RuntimeError(f"{' '.join(command)} gave no estimate")
        kernels = json.loads(said)
        if start and (kernels["compiled"] or not kernels["read"]):  # the first may fill the cache
            raise RuntimeError(f"a second start read {kernels['read']} kernels and compiled {kernels['compiled']}")
    seconds, spread = middle(times[1:])
    case = (
        f"DC2 {learner}: process start to the first estimate, {kernels['read']} kernels from the cache, none compiled"
    )
    return _told(Result(case, seconds, "s", spread=spread, higher_is_better=False), console)
