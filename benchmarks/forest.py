"""Forest inference beside every peer that is installed: deep trees, and trees of depth 10, on generated galaxies.

How the cost grows is in `benchmarks.forest_growth`, what whole models cost in `benchmarks.forest_bundles`.
"""

from collections.abc import Callable

import numpy as np
from rich.console import Console

from benchmarks import forest_bundles, forest_data, forest_growth, forest_peers
from benchmarks.forest_models import FULL, GRID_POINTS, QUICK, Size, Trained, inference, trained
from benchmarks.rates import Work, compared
from benchmarks.report import Result
from models.forest.inference import Inference, side_by_side
from models.forest.packets import FEW, fastest
from schemas.batch import Float32

COMPARED = ("rf5", "rfd10")
BATCHES = (1, 1_000, 10_000, 100_000, 1_000_000)
WORTH_A_THREAD = 10_000  # smaller batches are not worth a second thread, to any of them
# More rows than this at once make a peer no faster, and take long: rates are compared.
MOST = {
    "scikit-learn": 100_000,
    "scikit-learn-intelex": 100_000,
    "onnxruntime": 20_000,
    "ydf": 20_000,
    "treelite": 10_000,
}
ONNX_NODES = 1_000_000  # a graph of more takes many minutes and gigabytes to make
PDF_ROWS = 500_000  # PDFs held at once: 600 MB
LEVELS = 32  # quantiles of quantile-forest: far fewer numbers than our 301


def run(quick: bool) -> list[Result]:
    """All cases, ours and the peers' in turn."""
    size = QUICK if quick else FULL
    console = Console(stderr=True)
    rows, _ = forest_data.galaxies(size.rows, 2)
    results: list[Result] = []
    for name in COMPARED:
        console.print(f"{name}: training, or reading what was trained before")
        forest = trained(name, size)
        ours, bare = inference(forest), inference(forest, bare=True)
        for n in (1, FEW):  # compiled, or read from the cache of kernels, before any clock starts
            ours.predict(rows[:n])
            ours.pdfs(rows[:n], np.zeros(n, np.int32), np.empty((n, GRID_POINTS), np.float32))
        console.print(f"{name}: {len(ours.nodes.word):,} nodes; {_path(size.rows)}")
        results += _point(name, forest, ours, rows, size, console)
        results += _pdf(name, forest, ours, bare, rows, size, console)
        if name == COMPARED[0]:
            results += forest_growth.run(name, forest, ours, rows, size, console)
    return results + forest_bundles.run(size, console)


def _path(rows: int) -> str:
    if rows < FEW:
        return "eight in step"
    return "packets, AVX-512" if fastest() else "packets, portable"


def _cases(size: Size) -> list[tuple[int, int]]:
    """(threads, batch) worth measuring."""
    batches = [batch for batch in BATCHES if batch <= size.rows]
    return [(threads, batch) for threads in (1, 2) for batch in batches if threads == 1 or batch >= WORTH_A_THREAD]


def _with(predict: forest_peers.Predict, threads: int) -> Work:
    return lambda rows: predict(rows, threads)


def _present(
    makers: dict[str, Callable[[], forest_peers.Predict | None]], some: Float32, console: Console
) -> dict[str, forest_peers.Predict]:
    """Those peers that are installed and can estimate `some` rows; what they do once only is then done."""
    found = {}
    for who, make in makers.items():
        try:
            peer = make()
            if peer is not None:
                for threads in (1, 2):
                    peer(some, threads)
                found[who] = peer
        except Exception as error:  # a peer's own trouble is not ours
            console.print(f"{who} left out: {error!r:.200}")
    return found


def _point(name: str, forest: Trained, ours: Inference, rows: Float32, size: Size, console: Console) -> list[Result]:
    makers: dict[str, Callable[[], forest_peers.Predict | None]] = {
        "scikit-learn": lambda: forest_peers.scikit_learn(forest.model),
        "scikit-learn-intelex": lambda: forest_peers.intelex(forest),
        "onnxruntime": lambda: forest_peers.onnx(forest.model) if len(ours.nodes.word) <= ONNX_NODES else None,
        "ydf": lambda: forest_peers.ydf(forest),
        "treelite": lambda: forest_peers.treelite(forest.model),
    }
    peers = _present(makers, rows[:FEW], console)
    results = []
    for threads, batch in _cases(size):
        work: dict[str, Work] = {"slipher": _with(ours.predict, threads)}
        work |= {who: _with(peer, threads) for who, peer in peers.items()}
        case = f"{name} point, batch {batch:,}, {threads} threads ({_path(batch)})"
        results.append(compared(case, work, rows, batch, MOST, size.repeats, console))
    return results


def _pdf(
    name: str, forest: Trained, ours: Inference, bare: Inference, rows: Float32, size: Size, console: Console
) -> list[Result]:
    """Finished PDFs, and the bare kernel: nothing but the weights of the leaves on the grid."""
    train, most = forest_peers.QUANTILE_ROWS[name]
    train = min(train, size.train)
    who = f"quantile-forest, {LEVELS} quantiles" + (f", {train:,} training rows" if train < size.train else "")
    peers = _present({who: lambda: forest_peers.quantile_forest(forest, train, LEVELS)}, rows[:FEW], console)
    out = np.empty((min(size.rows, PDF_ROWS), GRID_POINTS), np.float32)
    map_of_row = np.zeros(len(out), np.int32)

    def pdfs(x: Float32, threads: int) -> None:
        for start in range(0, len(x), len(out)):
            part = x[start : start + len(out)]
            ours.pdfs(part, map_of_row[: len(part)], out[: len(part)], threads)

    def weights(x: Float32, threads: int) -> None:
        def some(part: slice) -> None:
            for start in range(part.start, part.stop, PDF_ROWS):
                bare.histograms(x[start : min(start + PDF_ROWS, part.stop)])

        side_by_side(some, len(x), threads)

    results = []
    for what, kernel, least in (("PDF and points", pdfs, 1), ("PDF, bare kernel", weights, 100_000)):
        for threads, batch in _cases(size):
            if batch < least:
                continue
            work: dict[str, Work] = {"slipher": _with(kernel, threads)}
            work |= {peer: _with(predict, threads) for peer, predict in peers.items()}
            case = f"{name} {GRID_POINTS}-point {what}, batch {batch:,}, {threads} threads ({_path(batch)})"
            results.append(compared(case, work, rows, batch, dict.fromkeys(peers, most), size.repeats, console))
    return results
