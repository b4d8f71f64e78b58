"""Forest inference beside every peer that is installed: deep trees, and trees of depth 10, on generated galaxies."""

import hashlib
import pickle
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console

from benchmarks import forest_data, forest_peers
from benchmarks.report import Result, middle
from models import grid as grids
from models.calibration import slope_table
from models.forest.density import Recalibration, identity
from models.forest.inference import Inference
from models.forest.packets import FEW, fastest
from models.forest.train import extract
from schemas.batch import Float32, Float64

MODELS: dict[str, dict[str, Any]] = {"rf5": {"min_samples_leaf": 5}, "rfd10": {"max_depth": 10}}
BATCHES = (1, 1_000, 10_000, 100_000, 1_000_000)
# More rows than this at once make a peer no faster, and take minutes: rates are compared.
MOST = {"scikit-learn": 200_000, "scikit-learn-intelex": 100_000, "onnxruntime": 20_000, "treelite": 10_000}
MOST_QUANTILES = 2_000
ONNX_NODES = 1_000_000  # a graph of more takes many minutes and gigabytes to make
ENOUGH = 0.5  # seconds that make a measurement
GRID_POINTS = 301
LEVELS = 32  # quantiles of quantile-forest: far fewer numbers than our 301


class Size(NamedTuple):
    """How much."""

    train: int
    rows: int
    repeats: int


FULL = Size(200_000, 1_000_000, 3)
QUICK = Size(20_000, 100_000, 1)


class Trained(NamedTuple):
    """A forest and what it was trained on."""

    model: Any
    x: Float32
    z: Float64


def run(quick: bool) -> list[Result]:
    """All cases, ours and the peers' in turn."""
    size = QUICK if quick else FULL
    console = Console(stderr=True)
    rows, _ = forest_data.galaxies(size.rows, 2)
    results: list[Result] = []
    for name, settings in MODELS.items():
        trained = _trained(name, settings, size, console)
        forest = extract(trained.model, trained.x, np.arange(len(trained.z)))
        grid = grids.linear(3.0, GRID_POINTS)
        # A map that is not straight, so that recalibration is work.
        maps = Recalibration(
            np.repeat(slope_table(np.random.default_rng(0).beta(1.2, 1.1, 5000))[None], 2, 0), np.empty(0)
        )
        ours = Inference(forest, trained.z, np.ones(len(trained.z)), grid, 0.008, 1.5, maps)
        bare = Inference(forest, trained.z, np.ones(len(trained.z)), grid, 0.0, 1.0, identity())
        for n in (1, FEW):  # compiled, or read from the cache of kernels, before any clock starts
            ours.predict(rows[:n])
            ours.pdfs(rows[:n], np.zeros(n, np.int32), np.empty((n, GRID_POINTS), np.float32))
        console.print(f"{name}: {len(ours.nodes.word):,} nodes; {_path(size.rows)}")
        results += _point(name, trained, ours, rows, size, console)
        results += _pdf(name, trained, ours, bare, rows, size, console)
        results += _growth(name, trained, ours, rows, size)
    return results


def _path(rows: int) -> str:
    if rows < FEW:
        return "eight in step"
    return "packets, AVX-512" if fastest() else "packets, portable"


def _trained(name: str, settings: dict[str, Any], size: Size, console: Console) -> Trained:
    """From the cache if it was trained before."""
    from sklearn import __version__
    from sklearn.ensemble import RandomForestRegressor

    x, z = forest_data.galaxies(size.train, 1)
    told = f"{name} {settings} {__version__}".encode() + x.tobytes() + z.tobytes()
    place = Path(tempfile.gettempdir()) / "slipher-benchmark-forest"
    place.mkdir(exist_ok=True)
    path = place / f"{name}-{hashlib.sha256(told).hexdigest()[:12]}.pickle"
    if path.exists():  # our own file, in our own folder
        with path.open("rb") as file:
            return Trained(pickle.load(file), x, z)
    console.print(f"training {name}")
    model = RandomForestRegressor(100, max_features=4, random_state=1, n_jobs=2, **settings).fit(x, z)
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        pickle.dump(model, file)
    part.rename(path)
    return Trained(model, x, z)


def _rate(work: Callable[[Float32], Any], rows: Float32, batch: int) -> float:
    """Rows per second in batches of `batch`: of the first one if that takes long enough, else of some after it."""
    first = time.perf_counter()
    work(rows[:batch])
    once = time.perf_counter() - first
    if once > ENOUGH:
        return batch / once
    batches = int(np.clip(ENOUGH / max(once, 1e-6), 1, 2000))
    starts = [k * batch % max(len(rows) - batch, 1) for k in range(batches)]
    first = time.perf_counter()
    for start in starts:
        work(rows[start : start + batch])
    return batches * batch / (time.perf_counter() - first)


def _compared(
    case: str,
    work: dict[str, Callable[[Float32], Any]],
    rows: Float32,
    batch: int,
    most: dict[str, int],
    repeats: int,
    console: Console,
) -> Result:
    """Alternately, `repeats` times; a peer of which `most` rows are known to take long gets no more than that many at once."""
    rates: dict[str, list[float]] = {who: [] for who in work}
    for _ in range(repeats):
        for who, each in work.items():
            rates[who].append(_rate(each, rows, min(batch, most.get(who, batch))))
    told = {who: middle(values) for who, values in rates.items()}
    console.print(f"{case}: " + ", ".join(f"{who} {rate:,.0f}" for who, (rate, _) in told.items()), soft_wrap=True)
    ours, spread = told.pop("slipher")
    return Result(
        case,
        ours,
        "objects/s",
        {k: v[0] for k, v in told.items()},
        spread,
        peer_spreads={k: v[1] for k, v in told.items()},
    )


def _with(predict: forest_peers.Predict, threads: int) -> Callable[[Float32], Any]:
    return lambda rows: predict(rows, threads)


def _point(name: str, trained: Trained, ours: Inference, rows: Float32, size: Size, console: Console) -> list[Result]:
    peers: dict[str, forest_peers.Predict | None] = {"scikit-learn": forest_peers.scikit_learn(trained.model)}
    makers: dict[str, Callable[[], forest_peers.Predict | None]] = {
        "scikit-learn-intelex": lambda: forest_peers.intelex(trained.model, trained.x, trained.z),
        "onnxruntime": lambda: forest_peers.onnx(trained.model) if len(ours.nodes.word) <= ONNX_NODES else None,
        "treelite": lambda: forest_peers.treelite(trained.model),
    }
    for who, make in makers.items():
        try:
            peers[who] = make()
        except Exception as error:  # a peer's own trouble is not ours
            console.print(f"{who} left out: {error!r:.200}")
    there = {who: peer for who, peer in peers.items() if peer is not None}
    results = []
    for threads in (1, 2):
        for batch in (b for b in BATCHES if b <= size.rows):
            if threads == 2 and batch < 10_000:
                continue  # not worth a thread, to any of them
            work: dict[str, Callable[[Float32], Any]] = {"slipher": _with(ours.predict, threads)}
            work |= {who: _with(peer, threads) for who, peer in there.items()}
            case = f"{name} point, batch {batch:,}, {threads} threads ({_path(batch)})"
            results.append(_compared(case, work, rows, batch, MOST, size.repeats, console))
    return results


def _pdf(
    name: str, trained: Trained, ours: Inference, bare: Inference, rows: Float32, size: Size, console: Console
) -> list[Result]:
    # It pads every leaf to the size of the largest: too much memory for shallow trees.
    peer = None if name == "rfd10" else forest_peers.quantile_forest(trained.model, trained.x, trained.z, LEVELS)
    out = np.empty((min(size.rows, 500_000), GRID_POINTS), np.float32)
    map_of_row = np.zeros(len(rows), np.int32)

    def pdfs(x: Float32, threads: int) -> None:
        for start in range(0, len(x), len(out)):
            part = x[start : start + len(out)]
            ours.pdfs(part, map_of_row[: len(part)], out[: len(part)], threads)

    results = []
    for threads in (1, 2):
        for batch in (b for b in BATCHES if b <= size.rows):
            if threads == 2 and batch < 10_000:
                continue
            work: dict[str, Callable[[Float32], Any]] = {"slipher": _with(pdfs, threads)}
            if peer is not None:
                work[f"quantile-forest, {LEVELS} quantiles"] = _with(peer, threads)
            case = f"{name} {GRID_POINTS}-point PDF and points, batch {batch:,}, {threads} threads ({_path(batch)})"
            most = dict.fromkeys(work, MOST_QUANTILES) | {"slipher": batch}
            results.append(_compared(case, work, rows, batch, most, size.repeats, console))
    n = min(size.rows, 100_000)
    case = f"{name} leaf weights on {GRID_POINTS} points alone, 1 threads"
    work = {"slipher": bare.histograms}
    results.append(_compared(case, work, rows, n, {}, size.repeats, console))
    return results


def _growth(name: str, trained: Trained, ours: Inference, rows: Float32, size: Size) -> list[Result]:
    """What missing values cost, and how the cost grows with trees."""
    n = min(size.rows, 200_000)
    holes = rows[:n].copy()
    holes[np.random.default_rng(0).random(holes.shape) < 0.1] = np.nan
    results = []
    for case, x in (("no value missing", rows[:n]), ("a tenth of the values missing", holes)):
        times = []
        for _ in range(size.repeats + 1):
            first = time.perf_counter()
            ours.predict(x)
            times.append((time.perf_counter() - first) / n * 1e6)
        cost, spread = middle(times[1:])
        results.append(Result(f"{name} point, {case}", cost, "us/object", spread=spread, higher_is_better=False))
    trees = trained.model.estimators_
    for count in (25, 50):
        trained.model.estimators_ = trees[:count]
        fewer = extract(trained.model, trained.x[:1000], np.arange(1000))
        trained.model.estimators_ = trees
        weight = np.ones(1000)
        small = Inference(fewer, trained.z[:1000], weight, grids.linear(3.0, 31), 0.0, 1.0, identity())
        times = []
        for _ in range(size.repeats + 1):
            first = time.perf_counter()
            small.predict(rows[:n])
            times.append((time.perf_counter() - first) / n * 1e6)
        cost, spread = middle(times[1:])
        results.append(Result(f"{name} point, {count} trees", cost, "us/object", spread=spread, higher_is_better=False))
    return results
