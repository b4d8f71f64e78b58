"""Compiles every kernel that a tree worker runs, into NUMBA_CACHE_DIR: part of the build of an image.

A small forest is trained on galaxies that are made up, and reads messages in Avro and Arrow, one and many at a time, with PDFs of
both forms, down to the Parquet file. ``python kernels.py`` says how many kernels there were.
"""

import gc
import itertools
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa

from consumers.rows import Provenance, RowBuilder
from consumers.tree import TreeWorker
from models import bundle, training
from schemas.bands import band_set
from schemas.batch import BandState, Galaxies, Messages
from schemas.encoder import encode_arrow, encode_avro
from streamer.run import now_ms, plan
from streamer.settings import RunSettings
from streamer.sink.ledger import REPEATED
from streamer.sink.staging import stage

SURVEY = "lsst"
MANY = 4_000  # takes the other way through the forest than one does


def galaxies(n: int, seed: int = 1) -> tuple[Galaxies, np.ndarray]:
    """(galaxies, redshifts): red ones are far away; some bands are missing."""
    rng = np.random.default_rng(seed)
    bands = band_set(SURVEY).bands
    z = rng.uniform(0.05, 2.0, n)
    magnitude = (20 + 2 * z)[:, None] + np.linspace(1.5, 0, len(bands)) * np.sin(1.6 * z)[:, None]
    flux = 10 ** (-0.4 * (magnitude + rng.normal(0, 0.05, magnitude.shape) - 31.4))
    state = rng.choice(
        np.array([BandState.MEASURED, BandState.NOT_OBSERVED, BandState.NON_DETECTED], np.uint8),
        flux.shape,
        p=[0.9, 0.05, 0.05],
    )
    made = Galaxies(
        bands=bands,
        survey=pa.array([SURVEY] * n),
        object_id=pa.array([str(k) for k in range(n)]),
        alert_id=pa.array([str(k) for k in range(n)]),
        ra=rng.uniform(0, 360, n),
        dec=rng.uniform(-80, 10, n),
        mjd=np.full(n, 61_000.0),
        flux=np.where(state == BandState.MEASURED, flux, np.nan).astype(np.float32),
        flux_err=(0.03 * flux + 8).astype(np.float32),
        band_state=state,
        ebv=rng.exponential(0.03, n).astype(np.float32),
        message=np.arange(n, dtype=np.int64),
        row=np.zeros(n, np.int32),
    )
    return made, z


def messages(payloads: list[bytes]) -> Messages:
    """As if they came from one partition."""
    n = len(payloads)
    return Messages(payloads, np.zeros(n, np.int32), np.arange(n), np.full(n, 1_767_225_600_000), {0: n})


def main() -> None:
    """Train, read, write."""
    began = time.monotonic()
    known, z = galaxies(1_200)
    few = training.ForestSettings(trees=16, folds=2, copies=1)
    model = training.fit(known.flux, known.flux_err, known.band_state, known.ebv, z, band_set(SURVEY), few)
    names = itertools.count()
    with TemporaryDirectory() as folder:
        bundles = Path(folder, "kernels.slipher")
        bundle.write(model, bundles)
        Path(folder, "_delta_log").mkdir()  # of a table, as far as a writer of files looks
        for form in ("plain", "compact"):
            made = plan(RunSettings(model=bundles, catalog=Path(folder), brokers="none:9092", topic="none", pdf=form))
            origin = Provenance(made.processing, "none", "none", "AAAAAAAAAAAAAAAAAAAAAA", "kernels")
            worker = TreeWorker(
                made.alerts.decoder(), made.estimator, RowBuilder(origin, made.alerts.night, now_ms, made.settings.pdf)
            )
            for n in (1, MANY):
                some, _ = galaxies(n, 2)
                for payloads in (encode_avro(some, SURVEY), encode_arrow(some, SURVEY)):
                    rows = worker.process(messages(payloads)).rows
                    if len(rows) != n:
                        raise RuntimeError(f"{n} galaxies gave {len(rows)} rows")
                    stage(Path(folder), str(next(names)), rows, {}, REPEATED)
    sys.stdout.write(f"{kernels()} kernels in {time.monotonic() - began:.0f} s\n")


def kernels() -> str:
    """How many were compiled, and how many found compiled."""
    from numba.core.dispatcher import Dispatcher

    stats = [each.stats for each in gc.get_objects() if isinstance(each, Dispatcher)]
    compiled, found = (
        sum(sum(getattr(each, name).values()) for each in stats) for name in ("cache_misses", "cache_hits")
    )
    return f"compiled {compiled}, found {found}"


if __name__ == "__main__":
    main()
