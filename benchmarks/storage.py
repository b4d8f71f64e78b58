"""What a row costs on disk, in both forms of its PDF, and what the forms do to its PDF's scores.

DC2's training galaxies make the forest. A night like the demo's is turned into rows and Parquet files by the worker and the
sink's own code, 100,000 rows a file as a commit has them; the validation galaxies are scored as they come back from such files.
"""

import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.feed import SURVEY, night
from benchmarks.report import Result
from consumers.pdf_column import SETTINGS, plain_column
from consumers.rows import Provenance, build
from models import metrics, training
from models.forest.estimator import ForestEstimator
from schemas import dc2, photometry_table
from schemas.bands import band_set
from schemas.batch import Estimates, Galaxies, Messages
from schemas.catalogue import ROW_PARTITIONS, PdfForm
from schemas.night import rollover
from schemas.processing import processing
from schemas.table_alerts import galaxies
from streamer.run import now_ms
from streamer.sink.ledger import REPEATED
from streamer.sink.staging import stage

ROWS = 100_000
TARGETS = ("cde", "crps", "brier", "pit_ks", "pit_outside", "coverage_95")
BANDS = band_set(SURVEY)


def run(quick: bool) -> list[Result]:
    """All cases; `quick` trains a smaller forest and stores fewer rows."""
    known = photometry_table.read(dc2.training(), BANDS, want_redshift=True).with_redshift()
    unseen = photometry_table.read(dc2.validation(), BANDS, want_redshift=True).with_redshift()
    settings = training.ForestSettings(augment="no", trees=20) if quick else training.ForestSettings()
    model = ForestEstimator(
        training.fit(known.flux, known.flux_err, known.band_state, known.ebv, known.z, BANDS, settings)
    )
    drawn = night(ROWS // 10 if quick else ROWS)
    tonight = galaxies(drawn.table, BANDS, drawn.mjd)
    seen = model.estimate(tonight)
    validation = galaxies(_placed(unseen), BANDS, np.full(len(unseen), drawn.mjd[-1]))
    judged = model.estimate(validation)
    scores = {"as estimated": metrics.pdf_metrics(judged.pdf, model.grid, unseen.z)}
    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="slipher-storage-") as folder:
        for form in SETTINGS:
            results += _sizes(Path(folder), tonight, seen, model, form)
            path, _ = _store(Path(folder), validation, judged, model, form)
            scores[form] = metrics.pdf_metrics(_back(path, model, form), model.grid, unseen.z)
    results += _scores(scores)
    return results


def _placed(table: photometry_table.PhotometryTable) -> photometry_table.PhotometryTable:
    """Galaxies that have a position, for the columns to hold one."""
    rng = np.random.default_rng(1)
    return replace(table, ra=rng.uniform(0, 360, len(table)), dec=rng.uniform(-60, 0, len(table)))


def _store(
    folder: Path, found: Galaxies, estimates: Estimates, model: ForestEstimator, form: PdfForm
) -> tuple[Path, tuple[float, float]]:
    """The Parquet file of these rows, and the CPU seconds that it took to build the rows and to write them."""
    n = len(found)
    what = processing(model.kind, SURVEY, model.sha256, "benchmark", dict(SETTINGS[form]))
    origin = Provenance(what, "q83vEjRWeJCrze8SNFZ4kA", "galaxies", "lAY7wVzqTXqkC3mGyLsUog", "benchmark")
    sent = now_ms() - np.arange(n, dtype=np.int64)[::-1] // 30
    messages = Messages([], np.arange(n, dtype=np.int32) % 8, np.arange(n, dtype=np.int64) // 8, sent, {})
    estimates = estimates._replace(pdf=estimates.pdf.copy())  # building rows may round it
    began = time.thread_time()
    rows: pa.Table = build(messages, found, estimates, origin, rollover(SURVEY), now_ms(), form)
    built = time.thread_time()
    values = {name: rows[name][0].as_py() for name in ROW_PARTITIONS}
    added = stage(folder, f"{form}-{n}", rows.drop_columns(list(ROW_PARTITIONS)), values, REPEATED)
    return folder / added.path, (built - began, time.thread_time() - built)


def _sizes(folder: Path, found: Galaxies, seen: Estimates, model: ForestEstimator, form: PdfForm) -> Iterator[Result]:
    n = len(found)
    _store(folder, found, seen, model, form)  # compiles, and touches the memory
    path, (built, written) = _store(folder, found, seen, model, form)
    about = pq.ParquetFile(path).metadata
    chunks = [about.row_group(g).column(c) for g in range(about.num_row_groups) for c in range(about.num_columns)]
    pdf = sum(c.total_compressed_size for c in chunks if c.path_in_schema.split(".")[0] in ("pdf", "pdf_u8"))
    rest = sum(c.total_compressed_size for c in chunks) - pdf

    def case(name: str, value: float, unit: str) -> Result:
        return Result(f"{form}: {name}", value, unit, higher_is_better=False)

    yield case("the PDF", pdf / n, "bytes/row")
    yield case("the other columns", rest / n, "bytes/row")
    yield case("the file", path.stat().st_size / n, "bytes/row")
    yield case("rows as Arrow columns", built / n * 1e6, "us/row")
    yield case("Parquet and fsync", written / n * 1e6, "us/row")


def _back(path: Path, model: ForestEstimator, form: PdfForm) -> np.ndarray:
    """The PDFs of a file, float32[n, G], in the order they were written."""
    table = pq.read_table(path, columns=["pdf", "pdf_u8"], partitioning=None).combine_chunks()
    pdf, pdf_u8 = (table[name].combine_chunks() for name in ("pdf", "pdf_u8"))
    lists = plain_column(pdf, pdf_u8, pa.array([form] * len(table)), {form: model.grid})
    flat: np.ndarray = lists.flatten().to_numpy()
    return flat.reshape(len(table), len(model.grid))


def _scores(scores: dict[str, dict[str, float]]) -> Iterator[Result]:
    itself = scores.pop("as estimated")
    for name in TARGETS:
        yield Result(f"{name}, as estimated", itself[name], "", higher_is_better=False)
        for form, got in scores.items():
            change = (got[name] - itself[name]) / abs(itself[name])
            yield Result(f"{name}, {form}", got[name], f"{change:+.3%}", higher_is_better=False)
