"""``python -m benchmarks.first_estimate BUNDLE``: what a new process does until its first estimate, for the forest benchmark.

Prints a line as soon as there is an estimate of one galaxy; then, after a batch that takes the other way through the forest, a
line of JSON: how many kernels numba read from its cache, and how many it compiled.
"""

import gc
import json
import sys

import numpy as np

import slipher

BATCH = 2_000  # rows: packets, not eight in step


def main(bundle: str) -> None:
    """Galaxies measured in every band."""
    model = slipher.load(bundle)
    first = model.estimate(_galaxies(model, 1))
    sys.stdout.write(f"{first.z_median[0]:.3f}\n")
    sys.stdout.flush()
    many = model.estimate(_galaxies(model, BATCH))
    if not np.array_equal(many.pdf[0], first.pdf[0]):
        raise RuntimeError("the same galaxy has another PDF in a batch")
    sys.stdout.write(json.dumps(kernels()) + "\n")


def _galaxies(model: slipher.Model, n: int) -> dict[str, np.ndarray]:
    """The first is always the same."""
    flux = np.geomspace(1000.0, 50_000.0, n)
    return {f"flux_{band}": flux for band in model.bands} | {f"flux_err_{band}": flux / 50 for band in model.bands}


def kernels() -> dict[str, int]:
    """How many kernels numba ``read`` from its cache in this process, and how many it ``compiled``."""
    from numba.core.dispatcher import Dispatcher

    stats = [each.stats for each in gc.get_objects() if isinstance(each, Dispatcher)]
    return {
        "read": sum(sum(each.cache_hits.values()) for each in stats),
        "compiled": sum(sum(each.cache_misses.values()) for each in stats),
    }


if __name__ == "__main__":
    main(sys.argv[1])
