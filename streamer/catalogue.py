"""The read side of a catalogue: what stands in it, as Arrow tables.

Every read goes through the Delta log. The directories hold files that no commit names (a writer died before it committed,
or was fenced): whoever globs them reads rows that are not there.
"""

import datetime as dt
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import DeltaTable

from schemas.batch import Float64
from schemas.catalogue import LATER, OPERATIONS, ROWS, TABLES
from schemas.errors import UserError
from streamer.reasons import COUNTED, counted
from streamer.sink.datasets import dataset, whole
from streamer.sink.store import place
from streamer.sink.torn import refuse_torn

_COARSE = dt.timedelta(milliseconds=1)  # times in the log's statistics are cut to milliseconds
_FOR_EVER = dt.datetime.max.replace(tzinfo=dt.UTC) - _COARSE  # newest row of a file without statistics: it must be read


class Info(NamedTuple):
    """A catalogue at a glance.

    Attributes
    ----------
    rows, files, size
        Of the rows table; `size` in bytes.
    nights, models
        Those that have rows, sorted.
    newest
        When the newest row was computed; None in an empty catalogue.
    counts
        night, model, rows, files, bytes: one row per pair, sorted.
    exceptions
        reason, entries, offsets: one row per reason; `offsets` counts the messages behind the entries.
    version
        Of the rows table's log.
    """

    rows: int
    files: int
    size: int
    nights: list[str]
    models: list[str]
    newest: dt.datetime | None
    counts: pa.Table
    exceptions: pa.Table
    version: int

    @property
    def bytes_a_row(self) -> float:
        """Bytes on disk per row; NaN in an empty catalogue."""
        return self.size / self.rows if self.rows else float("nan")


def open_catalogue(path: str | os.PathLike[str]) -> "Catalogue":
    """The catalogue in the directory `path`, as of now.

    Raises
    ------
    UserError
        If `path` is not a catalogue; the sentence says what was looked for.
    IntegrityError
        The last entry of a table's log is torn, as by a power cut.
    """
    root = place(path)
    if not root.is_dir():
        raise UserError(
            f"{root} is not a catalogue: there is no such directory. `slipher run --catalog {root}` makes one."
        )
    needed = [name for name in TABLES if name not in LATER]
    missing = [name for name in needed if not DeltaTable.is_deltatable(str(root / name))]
    if missing:
        raise UserError(
            f"{root} is not a catalogue: one holds the Delta tables {'/, '.join(needed)}/, "
            f"and here {'/, '.join(missing)}/ {'is' if len(missing) == 1 else 'are'} missing."
        )
    refuse_torn(root, list(TABLES))
    return Catalogue(root)


class Catalogue:
    """A snapshot: it does not see what is committed after it was opened, or refreshed.

    It may be read beside any writer. Files it names stay on disk for a day after a compaction replaced them.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        there = [name for name in TABLES if name not in LATER or DeltaTable.is_deltatable(str(root / name))]
        self._tables = {name: DeltaTable(str(root / name)) for name in there}
        self._known: ds.Dataset | None = None
        self._small: dict[str, pa.Table] = {}

    def refresh(self) -> bool:
        """See what was committed since; whether that is anything. Only new entries of the logs are read."""
        before = [table.version() for table in self._tables.values()]
        for table in self._tables.values():
            table.update_incremental()
        changed = before != [table.version() for table in self._tables.values()]
        if changed:
            self._known, self._small = None, {}
        return changed

    # -- the rows --------------------------------------------------------------------------------------------------------

    @property
    def schema(self) -> pa.Schema:
        """Schema of the rows, with units and UCDs as field metadata."""
        held = pa.schema(self._tables["rows"].schema().to_arrow())
        return pa.schema([ROWS.field(f.name) if f.name in ROWS.names else f for f in held])

    def schema_of(self, model: str | None) -> pa.Schema:
        """Schema of the rows that `scan` gives of a model: the same for all of them."""
        return self.schema

    def info(self) -> Info:
        """Counts and sizes, from the log alone: no row is read, but for files without statistics."""
        files = self.files()
        groups = files.group_by(["night", "model"]).aggregate([("rows", "sum"), ("rows", "count"), ("bytes", "sum")])
        counts = groups.rename_columns({"rows_sum": "rows", "rows_count": "files", "bytes_sum": "bytes"})
        counts = counts.select(["night", "model", "rows", "files", "bytes"]).sort_by(
            [("night", "ascending"), ("model", "ascending")]
        )
        return Info(
            rows=pc.sum(files["rows"]).as_py() or 0,
            files=len(files),
            size=pc.sum(files["bytes"]).as_py() or 0,
            nights=sorted(set(counts["night"].to_pylist())),
            models=sorted(set(counts["model"].to_pylist())),
            newest=pc.max(files["newest"]).as_py(),
            counts=counts,
            exceptions=counted(self.exceptions(columns=COUNTED)),
            version=self._tables["rows"].version(),
        )

    def files(self, night: str | None = None, model: str | None = None) -> pa.Table:
        """The live files: path (below rows/), night, model, rows, bytes, first and last object_id, newest ingest_time."""
        actions = pa.table(self._tables["rows"].get_add_actions(flatten=True))
        time = pa.timestamp("us", tz="UTC")
        n = len(actions)

        def column(name: str, kind: pa.DataType) -> pa.Array | pa.ChunkedArray:
            return actions[name].cast(kind) if name in actions.column_names else pa.nulls(n, kind)

        table = pa.table(
            {
                "path": column("path", pa.string()),
                "night": column("partition.night", pa.string()),
                "model": column("partition.model", pa.string()),
                "rows": column("num_records", pa.int64()),
                "bytes": column("size_bytes", pa.int64()),
                "first": column("min.object_id", pa.string()),
                "last": column("max.object_id", pa.string()),
                "newest": column("max.ingest_time", time),
            }
        )
        chosen = _where(night, model)
        return table if chosen is None else table.filter(chosen)

    def file_uris(self, night: str | None = None, model: str | None = None) -> list[str]:
        """Absolute paths of the live Parquet files: for readers that know no Delta, such as DuckDB.

        The columns ``night`` and ``model`` stand in the folders' names (Hive style), not in the files.
        """
        given = {"night": night, "model": model}
        return self._tables["rows"].file_uris([(k, "=", v) for k, v in given.items() if v is not None] or None)

    def scan(
        self,
        columns: Sequence[str] | None = None,
        night: str | None = None,
        model: str | None = None,
        batch_rows: int = 32_768,
        about: int | None = None,
    ) -> pa.RecordBatchReader:
        """Stream the rows of a night or model, or all, in no particular order.

        PDFs that are stored in the compact form stand in ``pdf`` as the others do; ``pdf_u8`` is as it is stored.

        Parameters
        ----------
        columns
            Names of columns, in the order wanted; None is all of them.
        night, model
            Only these partitions are read.
        batch_rows
            Most rows in a batch.
        about
            Read only as many files, spread over all of them, as hold this many rows; None reads all.

        Raises
        ------
        UserError
            If a column does not exist.
        """
        names = self._checked(columns, self.schema)
        paths = None if about is None else _spread(self.files(night, model), about)
        return self._read(paths, names, _where(night, model), batch_rows)

    def head(
        self, n: int = 10, model: str | None = None, night: str | None = None, columns: Sequence[str] | None = None
    ) -> pa.Table:
        """The n rows computed last, newest first. Files are opened from the newest until no other can hold a newer row."""
        if n < 1:
            raise UserError(f"{n} rows are none: ask for at least one.")
        names = self._checked(columns, self.schema)
        wanted = names if "ingest_time" in names else [*names, "ingest_time"]
        files = self.files(night, model)
        rows = self.schema.empty_table().select(wanted)
        held = zip(files["path"].to_pylist(), (time or _FOR_EVER for time in files["newest"].to_pylist()), strict=True)
        for path, newest in sorted(held, key=lambda file: file[1], reverse=True):
            if len(rows) >= n and newest + _COARSE < rows["ingest_time"][n - 1].as_py():
                break
            more = self._read([path], wanted).read_all()
            rows = pa.concat_tables([rows, more]).sort_by([("ingest_time", "descending")]).slice(0, n)
        return rows.select(names)

    def may_hold(self, object_id: str, model: str | None = None) -> pa.Table:
        """Those of the `files` whose range of object ids holds `object_id`, newest first."""
        files = self.files(model=model)
        outside = pc.or_(pc.greater(files["first"], object_id), pc.less(files["last"], object_id))
        outside = pc.fill_null(outside, False)  # without statistics: anything
        return files.filter(pc.invert(outside)).sort_by([("newest", "descending")])

    def find(self, object_id: str, model: str | None = None, most: int | None = None) -> pa.Table:
        """Every row of an object, newest first.

        Only files whose range of object ids holds `object_id` are opened (the newest ones, of at most `most` rows), and of
        those only the ones that have it: in a compacted night that is one row group.
        """
        files = self.may_hold(object_id, model)
        if most is not None:
            files = files.slice(0, max(int(np.searchsorted(np.cumsum(files["rows"].to_numpy()), most, "right")), 1))
        held = files["path"].to_pylist()
        wanted = pc.field("object_id") == object_id
        if len(held) > 1:  # PDFs are dear to read in vain
            there = self._dataset(held).scanner(columns=["__filename"], filter=wanted).to_table()["__filename"]
            held = pc.unique(there).to_pylist()
        keys = [("ingest_time", "descending"), ("kafka_offset", "descending"), ("model", "ascending")]
        return self._read(held, self.schema.names, wanted).read_all().sort_by(keys)

    # -- what stands beside them --------------------------------------------------------------------------------------------

    def exceptions(
        self,
        reasons: Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
        at: tuple[int, int] | None = None,
    ) -> pa.Table:
        """Entries of the exceptions ledger, oldest first: an entry keeps its place as others are added.

        Parameters
        ----------
        reasons
            Names of schemas.batch.Reason; None is all.
        columns
            Names of columns; leave out ``payload`` where it is not needed.
        at
            Only entries that cover this (partition, offset).
        """
        chosen = None if reasons is None else pc.field("reason").isin(list(reasons))
        if at is not None:
            partition, offset = at
            covers = (pc.field("offset_start") <= offset) & (pc.field("offset_end") > offset)
            there = (pc.field("kafka_partition") == partition) & covers
            chosen = there if chosen is None else chosen & there
        order = ["ingest_time", "topic", "kafka_partition", "offset_start", "kafka_row", "processing_id"]
        names = list(columns) if columns is not None else TABLES["exceptions"].names
        read = [*names, *(name for name in order if name not in names)]
        table = dataset(self._tables["exceptions"], self.root / "exceptions").to_table(columns=read, filter=chosen)
        return table.sort_by([(name, "ascending") for name in order]).select(names)

    def version(self, name: str = "rows") -> int:
        """Version of one of the tables, as it was opened; -1 for one that a catalogue of an older version lacks."""
        return int(self._tables[name].version()) if name in self._tables else -1

    def dataset(self, name: str) -> ds.Dataset:
        """One of the tables (rows, exceptions, models, topics) as a dataset, for reads that stream."""
        return self._dataset() if name == "rows" else dataset(self._tables[name], self.root / name)

    def models(self) -> pa.Table:
        """The models table, one row per processing id, oldest first."""
        return self._whole("models").sort_by([("registered", "ascending"), ("model", "ascending")])

    def topics(self) -> pa.Table:
        """The topics table, oldest binding first."""
        return self._whole("topics").sort_by("bound")

    def operations(self) -> pa.Table:
        """The operations table, oldest first: replays, retries, withdrawals, readers that were retired."""
        if "operations" not in self._tables:
            return OPERATIONS.empty_table()
        return self._whole("operations").sort_by("time")

    def grid(self, model: str) -> Float64:
        """Redshifts of the points of the pdf column of `model`, float64[G].

        Raises
        ------
        UserError
            If no model of that name, or processing id, is registered here.
        """
        table = self.models()
        for name, processing_id, grid in zip(
            table["model"].to_pylist(), table["processing_id"].to_pylist(), table["z_grid"], strict=True
        ):
            if model in (name, processing_id):
                return np.asarray(grid.values)
        raise UserError(
            f"{self.root} knows no model {model}: there are {', '.join(table['model'].to_pylist()) or 'none'}."
        )

    def grids_of(self, night: str | None = None, model: str | None = None) -> dict[str, Float64]:
        """Redshift grids of the PDFs that `scan` gives of a night or model, by the name in the column model, sorted."""
        return {name: self.grid(name) for name in sorted(set(self.files(night, model)["model"].to_pylist()))}

    # -- inside -------------------------------------------------------------------------------------------------------------

    def _whole(self, name: str) -> pa.Table:
        """A small table; the snapshot does not change, so it is read once."""
        if name not in self._small:
            self._small[name] = whole(self._tables[name], self.root / name)
        return self._small[name]

    def _dataset(self, paths: Sequence[str] | None = None) -> ds.Dataset:
        """The live rows as a dataset, or those of some of its files."""
        if self._known is None:
            self._known = dataset(self._tables["rows"], self.root / "rows")
        whole = self._known
        if paths is None:
            return whole
        wanted = set(paths)
        fragments = [fragment for fragment in whole.get_fragments() if fragment.path in wanted]
        return ds.FileSystemDataset(fragments, whole.schema, whole.format, whole.filesystem)

    def _read(
        self,
        paths: Sequence[str] | None,
        names: list[str],
        where: pc.Expression | None = None,
        batch_rows: int = 32_768,
    ) -> pa.RecordBatchReader:
        """Columns of the live rows, or of those of some files, all PDFs as plain ones."""
        both = "pdf" in names and "pdf_u8" in self.schema.names
        read = list(dict.fromkeys([*names, "pdf_u8", "model"])) if both else names
        reader = self._dataset(paths).scanner(columns=read, filter=where, batch_size=batch_rows).to_reader()
        if not both:
            return reader

        models = self.models()
        grids = {m: np.asarray(g.values) for m, g in zip(models["model"].to_pylist(), models["z_grid"], strict=True)}
        schema = pa.schema([reader.schema.field(name) for name in names])

        def plain() -> Iterator[pa.RecordBatch]:
            for batch in reader:
                pdf = batch["pdf"]
                if batch["pdf_u8"].null_count < len(batch):
                    from consumers.pdf_column import plain_column  # Numba: half of what `show` takes to start

                    pdf = plain_column(pdf, batch["pdf_u8"], batch["model"], grids)
                yield pa.record_batch([pdf if name == "pdf" else batch[name] for name in names], schema=schema)

        return pa.RecordBatchReader.from_batches(schema, plain())

    def _checked(self, columns: Sequence[str] | None, schema: pa.Schema) -> list[str]:
        held = schema.names
        unknown = [name for name in columns or () if name not in held]
        if unknown:
            raise UserError(f"The catalogue has no column {', '.join(unknown)}: there are {', '.join(held)}.")
        return list(columns) if columns is not None else held


def _where(night: str | None, model: str | None) -> pc.Expression | None:
    chosen = None
    for name, value in (("night", night), ("model", model)):
        if value is not None:
            term = pc.field(name) == value
            chosen = term if chosen is None else chosen & term
    return chosen


def _spread(files: pa.Table, rows: int) -> list[str]:
    """Paths of files, in a fixed random order, until they hold `rows`."""
    order = np.random.default_rng(0).permutation(len(files))
    held = np.cumsum(files["rows"].to_numpy()[order])
    return files["path"].take(pa.array(order[: int(np.searchsorted(held, rows)) + 1])).to_pylist()
