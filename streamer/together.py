"""A catalogue in which a forest and an image model are read as one: as the best of both, or as their blend.

Both are made when they are read, from the rows that stand there. They have names as models have, so that whatever reads a model
of a catalogue (an export, a comparison) reads them too: `best`, and that of the blend.
"""

import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from models import grid as grids
from models.points import COLUMNS as POINTS
from models.points import Risk, points, risk_tables
from models.pool import Pool, common_grid, regridded
from schemas.batch import Float32, Float64, Int64
from schemas.catalogue import ROWS
from schemas.errors import IntegrityError, UserError
from schemas.flags import Flag
from streamer import best
from streamer.best import IMAGES, Choices
from streamer.catalogue import Catalogue

BEST, BLEND = "best", "blend"
SHAPE = Flag.BROAD_PDF | Flag.MULTIMODAL_PDF | Flag.Z_AT_GRID_EDGE  # said of a PDF: a blend's are of its own
IN_MEMORY = 256 << 20  # bytes of PDFs; more lie in a temporary file meanwhile
CHOSEN = (
    pa.field(
        "best", pa.string(), False, {"description": "whose row this is: blend, images, forest; none: no redshift"}
    ),
    pa.field("best_reason", pa.string(), False, {"description": "why"}),
)


class Both(NamedTuple):
    """The two models, by their names in the column ``model``."""

    forest: str
    images: str


def both_of(catalogue: Catalogue, forest: str | None, images: str | None, pool: Pool | None) -> Both:
    """Which two models are meant: those that are named, else those of the blend, else the newest of their kinds.

    Raises
    ------
    UserError
        There is no such model, or a named one is not the blend's.
    """
    held = set(catalogue.files()["model"].to_pylist())
    known = [row for row in catalogue.models().to_pylist() if row["model"] in held]
    named = {row["model"]: row for row in known}
    found = {}
    for kind, name, sha256 in (
        ("forest", forest, pool.forest if pool else None),
        ("images", images, pool.images if pool else None),
    ):
        if name is not None and name not in named:
            raise UserError(
                f"{catalogue.root} has no rows of the model {name}: there are {', '.join(named) or 'none'}."
            )
        mine = [row for row in known if name or sha256 or (row["kind"] == IMAGES) == (kind == "images")]
        mine = [row for row in mine if name in (None, row["model"]) and sha256 in (None, row["bundle_sha256"])]
        if not mine:
            what = f"the {kind} model" if kind == "images" else "the forest"
            if sha256:
                told = f"{name} is not {what} of the blend" if name else f"{what} of the blend has no rows here"
                raise UserError(
                    f"{catalogue.root}: {told} (bundle {sha256[:8]}): there are {', '.join(named) or 'none'}."
                )
            raise UserError(
                f"{catalogue.root} has no rows of {'an image model' if kind == 'images' else 'a forest'}: "
                f"there are {', '.join(named) or 'none'}."
            )
        found[kind] = mine[-1]["model"]
    if found["forest"] == found["images"]:
        raise UserError(f"{found['forest']} twice: two models are wanted.")
    return Both(found["forest"], found["images"])


class Together(Catalogue):
    """A snapshot as `Catalogue` is, with the models ``best`` and, given a blend, its name (or ``blend``) beside those there are.

    Parameters
    ----------
    root
        The catalogue.
    forest, images
        Names of the two models; see `both_of` for what holds without.
    pool
        The blend; with it ``best`` takes it first.

    Raises
    ------
    UserError
        If these models are not there.
    """

    def __init__(
        self, root: Path, forest: str | None = None, images: str | None = None, pool: Pool | None = None
    ) -> None:
        super().__init__(root)
        self.pool = pool
        self.both = both_of(self, forest, images, pool)
        stored = [super(Together, self).grid(name) for name in self.both]
        self._stored = dict(zip(self.both, stored, strict=True))
        self._grid = common_grid(*stored) if pool is None else pool.grid
        self._risk: Risk | None = None

    # -- what a catalogue says of its models -----------------------------------------------------------------------------

    def grid(self, model: str) -> Float64:
        """As `Catalogue.grid`; of ``best`` and the blend the grid that holds those of both."""
        return self._grid if self._made(model) else super().grid(model)

    def files(self, night: str | None = None, model: str | None = None) -> pa.Table:
        """As `Catalogue.files`; of ``best`` and the blend those of both models, under that name."""
        if model is None or not self._made(model):
            return super().files(night, model)
        table = super().files(night)
        table = table.filter(pc.is_in(table["model"], pa.array(list(self.both))))
        return table.set_column(table.column_names.index("model"), "model", pa.array([model] * len(table), pa.string()))

    def grids_of(self, night: str | None = None, model: str | None = None) -> dict[str, Float64]:
        """As `Catalogue.grids_of`; rows of ``best`` are under their models' names."""
        if model is None or not self._made(model) or not len(self.files(night, model)):
            return super().grids_of(night, model)
        names = [*self.both] if model == BEST else []
        return dict.fromkeys([*names, *([self.pool.name] if self.pool else [])], self._grid)

    def schema_of(self, model: str | None) -> pa.Schema:
        """Schema of the rows that `scan` gives of a model; those of ``best`` say whose they are, and why."""
        schema = super().schema_of(model)
        return schema if model != BEST else pa.schema([*schema, *CHOSEN], metadata=schema.metadata)

    def scan(
        self,
        columns: Sequence[str] | None = None,
        night: str | None = None,
        model: str | None = None,
        batch_rows: int = 32_768,
        about: int | None = None,
    ) -> pa.RecordBatchReader:
        """As `Catalogue.scan`; rows of ``best`` and the blend are made from those of both models, `about` is not heeded."""
        if model is None or not self._made(model):
            return super().scan(columns, night, model, batch_rows, about)
        whole = self.schema_of(model)
        names = self._checked(columns, whole)
        schema = pa.schema([whole.field(name) for name in names])

        def made() -> Iterator[pa.RecordBatch]:
            for one in sorted(set(self.files(night, model)["night"].to_pylist())):
                for batch in self._night(one, names, model, batch_rows):
                    yield batch.select(names).cast(schema)

        return pa.RecordBatchReader.from_batches(schema, made())

    def slim(self, night: str) -> tuple[pa.Table, pa.Table]:
        """Rows of both models in a night, the columns that make the choice."""
        forest, images = (super(Together, self).scan(best.COLUMNS, night, name).read_all() for name in self.both)
        return forest.combine_chunks(), images.combine_chunks()

    def pdfs(self, night: str, model: str, rows: Int64) -> Float32:
        """PDFs of some rows of one of both models, by their numbers in `slim`, normalised on the grid of both: float32[k, G]."""
        forest, images = self.slim(night)
        kept = _Kept(rows, len(self._grid))
        for at, batch in self._in_order(
            night, model, forest if model == self.both.forest else images, [*_NEEDED, "pdf"]
        ):
            kept.take(at, batch, self._stored[model], self._grid)
        return kept.pdf

    # -- inside ------------------------------------------------------------------------------------------------------------

    def _made(self, model: str) -> bool:
        if model == BEST or (self.pool is not None and model in (BLEND, self.pool.name)):
            return True
        if model == BLEND:
            raise UserError("There is no blend without its file: --blend FILE, which `slipher blend` makes.")
        return False

    def _night(self, night: str, names: list[str], model: str, batch_rows: int) -> Iterator[pa.RecordBatch]:
        """Rows of ``best`` or the blend in a night."""
        forest, images = self.slim(night)
        found = best.choose(forest, images, blend=self.pool is not None)
        which = {
            j.choice: [k for k, other in enumerate(found.judged) if other.choice == j.choice] for j in found.judged
        }
        alone = np.isin(found.images, [k for name, these in which.items() if name != BLEND for k in these])
        pooled = np.isin(found.images, which.get(BLEND, []))
        stored = super().schema_of(None).names
        read = list(dict.fromkeys([*(name for name in names if name in stored), *_NEEDED]))
        kept = None
        forest_rows = np.full(len(found.images), -1, np.int64)
        forest_rows[found.pairs[1]] = found.pairs[0]
        want_pdf = bool(pooled.any())
        if (
            want_pdf
        ):  # the forest's PDFs and flags of the pairs that are blended, in the order of the image model's rows
            rows = forest_rows[pooled]
            kept = _Kept(rows, len(self._grid))
            for at, batch in self._in_order(night, self.both.forest, forest, [*_NEEDED, "pdf"], batch_rows):
                kept.take(at, batch, self._stored[self.both.forest], self._grid)
        if model == BEST:
            for at, batch in self._in_order(night, self.both.forest, forest, read, batch_rows):
                here = found.forest[at : at + len(batch)]
                if (here >= 0).any():
                    yield self._as_they_are(batch, here, found, self.both.forest)
        if want_pdf or model == BEST:
            also = ["pdf"] if want_pdf and "pdf" not in read else []
            at_pooled = np.cumsum(pooled) - 1
            for at, batch in self._in_order(night, self.both.images, images, [*read, *also], batch_rows):
                part = slice(at, at + len(batch))
                if model == BEST and alone[part].any():
                    here = np.where(alone[part], found.images[part], -1)
                    yield self._as_they_are(batch, here, found, self.both.images)
                if kept is not None and pooled[part].any():
                    mine = np.flatnonzero(pooled[part])
                    some = batch.take(pa.array(mine))
                    rows_made = self.blended(some, kept.pdf[at_pooled[part][mine]], kept.flags[at_pooled[part][mine]])
                    yield _with_reasons(rows_made, found.images[part][mine], found) if model == BEST else rows_made

    def blended(
        self, images: pa.RecordBatch, forest_pdf: Float32, forest_flags: npt.NDArray[np.int32]
    ) -> pa.RecordBatch:
        """Rows of the blend.

        Parameters
        ----------
        images
            Rows of the image model, with their PDFs.
        forest_pdf, forest_flags
            Of the forest's rows of the same messages: float32[n, G] on the blend's grid, int32[n].
        """
        assert self.pool is not None, "a blend is made by a pool"
        mine = regridded(
            _pdfs(images["pdf"], self._stored[self.both.images]), self._stored[self.both.images], self._grid
        )
        pdf = self.pool.pdfs(forest_pdf, mine)
        self._risk = self._risk or risk_tables(self._grid)
        found = points(pdf, self._grid, self._risk)
        flags = (images["flags"].to_numpy() | forest_flags) & ~np.int32(SHAPE) | found.flags.astype(np.int32)
        made: dict[str, Any] = {_STORED.get(name, name): found.column(name) for name in POINTS}
        made |= {
            "flags": flags,
            "pdf": _lists(pdf),
            "model": pa.repeat(self.pool.name, len(images)),
            "processing_id": pa.repeat(self.pool.card["sha256"][:16], len(images)),
        }
        if "pdf_u8" in images.schema.names:
            made["pdf_u8"] = pa.nulls(len(images), ROWS.field("pdf_u8").type)
        columns = [
            pa.array(made[name]).cast(images.schema.field(name).type) if name in made else images[name]
            for name in images.schema.names
        ]
        return pa.record_batch(columns, schema=images.schema)

    def blend_of(self, forest: pa.Table, images: pa.Table) -> pa.Table:
        """Rows of the blend, of n rows of either model that belong together, with their PDFs."""
        own = _pdfs(forest["pdf"].combine_chunks(), self._stored[self.both.forest])
        moved = regridded(own, self._stored[self.both.forest], self._grid)
        batch = images.combine_chunks().to_batches()[0]
        return pa.Table.from_batches([self.blended(batch, moved, forest["flags"].to_numpy())])

    def _as_they_are(self, batch: pa.RecordBatch, judgement: Int64, found: Choices, model: str) -> pa.RecordBatch:
        """The rows of a stored model that are the best of their objects; PDFs on the grid of both."""
        rows = np.flatnonzero(judgement >= 0)
        some = batch.take(pa.array(rows))
        grid = self._stored[model]
        if "pdf" in some.schema.names and not np.array_equal(grid, self._grid):
            pdf = _lists(regridded(_pdfs(some["pdf"], grid), grid, self._grid))
            some = some.set_column(some.schema.names.index("pdf"), some.schema.field("pdf"), pdf)
        return _with_reasons(some, judgement[rows], found)

    def _in_order(
        self, night: str, model: str, known: pa.Table, names: list[str], batch_rows: int = 32_768
    ) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Batches of a stored model, and the number of each one's first row in `known`: a snapshot is read in one order."""
        at = 0
        for batch in super().scan(names, night, model, batch_rows):
            expected = known["kafka_offset"].slice(at, len(batch)).combine_chunks()
            if not batch["kafka_offset"].equals(expected):
                raise IntegrityError(f"The rows of {model} in {night} came in another order than before.")
            yield at, batch
            at += len(batch)


_NEEDED = ["flags", "model", "kafka_offset"]
_STORED = {"odds": "odds_0p03"}


class _Kept:
    """PDFs and flags of the forest for rows of the image model: in memory, or in a temporary file where they are many."""

    def __init__(self, rows: Int64, size: int) -> None:
        self._order = np.argsort(rows, kind="stable")
        self._rows = rows[self._order]
        self.flags = np.zeros(len(rows), np.int32)
        shape = (len(rows), size)
        if 4 * len(rows) * size <= IN_MEMORY:
            self.pdf: npt.NDArray[np.float32] = np.empty(shape, np.float32)
        else:
            with tempfile.TemporaryFile() as file:  # the map keeps it
                self.pdf = np.memmap(file, np.float32, "w+", shape=shape)

    def take(self, at: int, batch: pa.RecordBatch, grid: Float64, onto: Float64) -> None:
        """Keep what is wanted of rows `at`, `at` + 1, ... of the forest."""
        first, last = np.searchsorted(self._rows, [at, at + len(batch)])
        if first == last:
            return
        some = batch.take(pa.array(self._rows[first:last] - at))
        into = self._order[first:last]
        self.pdf[into] = regridded(_pdfs(some["pdf"], grid), grid, onto)
        self.flags[into] = some["flags"].to_numpy()


def _pdfs(column: pa.Array, grid: Float64) -> Float32:
    """Stored PDFs, normalised, float32[n, G]; NaN where there is none."""
    out = np.full((len(column), len(grid)), np.nan, np.float32)
    has = column.is_valid().to_numpy(zero_copy_only=False)
    values = column.filter(pa.array(has)).flatten().to_numpy().reshape(-1, len(grid))
    out[has] = grids.normalise(values.astype(np.float64), grid)
    return out


def _lists(pdf: Float32) -> pa.Array:
    """A list a row; null where a row begins with NaN."""
    from consumers.pdf_column import pdf_column

    return pdf_column(pdf)


def _with_reasons(rows: pa.RecordBatch, judgement: Int64, found: Choices) -> pa.RecordBatch:
    at = pa.array(judgement)
    told = [pa.array([getattr(j, name) for j in found.judged], pa.string()).take(at) for name in ("choice", "reason")]
    return pa.record_batch([*rows.columns, *told], schema=pa.schema([*rows.schema, *CHOSEN]))


def open_together(
    path: str | os.PathLike[str],
    blend: Path | None = None,
    forest: str | None = None,
    images: str | None = None,
) -> Together:
    """The catalogue at `path` with both models together; parameters and errors as `Together` and `models.pool.read` have them."""
    from models import pool as pools
    from streamer.catalogue import open_catalogue

    return Together(open_catalogue(path).root, forest, images, None if blend is None else pools.read(blend))
