"""``python -m benchmarks.first_estimate BUNDLE``: what a new process does until its first estimate, for the forest benchmark.

Prints one line of JSON as soon as there is an estimate: which kernels numba read from its cache, and which it compiled.
"""

import json
import sys

import numpy as np

import slipher


def main(bundle: str) -> None:
    """One galaxy, measured in every band."""
    model = slipher.load(bundle)
    table = {f"flux_{band}": np.array([1000.0]) for band in model.bands}
    table |= {f"flux_err_{band}": np.array([20.0]) for band in model.bands}
    got = model.estimate(table)
    if not np.isfinite(got.z_median[0]):
        raise RuntimeError("the first estimate is none")
    sys.stdout.write(json.dumps(kernels()) + "\n")
    sys.stdout.flush()


def kernels() -> dict[str, int]:
    """How many kernels numba ``read`` from its cache in this process, and how many it ``compiled``."""
    modules = [
        module for name, module in sys.modules.items() if name.split(".")[0] in ("models", "consumers", "schemas")
    ]
    stats = {id(f): f.stats for module in modules for f in vars(module).values() if hasattr(f, "stats")}
    return {
        "read": sum(sum(each.cache_hits.values()) for each in stats.values()),
        "compiled": sum(sum(each.cache_misses.values()) for each in stats.values()),
    }


if __name__ == "__main__":
    main(sys.argv[1])
