"""How good the night's redshifts are, from the table and the truth: the demo's own figures."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from models import metrics
from schemas.batch import Float64
from streamer.catalogue import Catalogue

SAMPLE = 50_000  # rows whose PDFs are scored; points are scored on all


def night_figures(catalogue: Catalogue, truth: pa.Table, model: str, z_train: Float64) -> dict[str, Any]:
    """Metrics of the rows of `model` whose redshift `truth` (object_id, z) knows, and of trainZ, n(z) of `z_train`, on them."""
    columns = ["object_id", "z_median", "pdf"]
    rows = pa.Table.from_batches(catalogue.scan(columns, model=model))
    joined = rows.select(["object_id", "z_median"]).append_column("at", pa.array(np.arange(len(rows))))
    joined = joined.join(truth, "object_id", join_type="inner").sort_by("at")
    z, at = joined["z"].to_numpy(), joined["at"].to_numpy()
    z_median = joined["z_median"].to_numpy()
    known = np.isfinite(z_median)
    some = np.random.default_rng(0).choice(np.flatnonzero(known), min(SAMPLE, int(known.sum())), replace=False)
    some.sort()
    grid = catalogue.grid(model)
    lists = rows["pdf"].take(pa.array(at[some])).combine_chunks()
    pdf = lists.flatten().to_numpy().reshape(-1, len(grid))
    n_z = metrics.trainz(z_train, grid)
    middle = float(np.median(z_train))
    return {
        **metrics.point_metrics(z_median, z),
        **metrics.pdf_metrics(pdf, grid, z[some]),
        "trainz": {
            **metrics.point_metrics(np.full(len(z), middle), z),
            **metrics.pdf_metrics(np.broadcast_to(n_z, pdf.shape), grid, z[some]),
        },
    }


def size_on_disk(folder: Path) -> int:
    """Bytes of all files below `folder`."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
