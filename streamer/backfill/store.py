"""Keeps manifests in a table of the catalogue, where a person can ask which record of which file an offset is."""

from importlib.metadata import version
from pathlib import Path

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from schemas.catalogue import MANIFESTS
from schemas.errors import IntegrityError, TroubleError
from streamer.backfill.at_rest import Stretch
from streamer.backfill.manifest import Entry, Manifest, Piece
from streamer.sink.appids import read_app_ids
from streamer.sink.catalogue import CONFIGURATION
from streamer.sink.datasets import whole

TRIES = 20


def load(root: Path, name: str) -> Manifest | None:
    """The manifest of the files called `name` in the catalogue at `root`; None where there is none.

    Raises
    ------
    IntegrityError
        It is not what its hash says.
    """
    try:
        table = DeltaTable(str(root / "manifests"))
    except TableNotFoundError:
        return None
    rows = whole(table, root / "manifests", filters=[("topic", "=", name)])
    order = [(column, "ascending") for column in ("kafka_partition", "offset_start", "file", "begin")]
    found = rows.sort_by(order).to_pylist()
    if not found:
        return None
    files: dict[str, Entry] = {}
    numbers: dict[str, int] = {}
    pieces = []
    for row in found:
        name_ = row["file"]
        files.setdefault(name_, Entry(name_, row["size"], row["sha256"], row["kind"]))
        number = numbers.setdefault(name_, len(numbers))
        stretch = Stretch(row["begin"], row["end"], row["offset_end"] - row["offset_start"])
        pieces.append(Piece(row["kafka_partition"], row["offset_start"], number, stretch, row["record_start"]))
    manifest = Manifest(list(files.values()), pieces)
    if {row["topic_id"] for row in found} != {manifest.topic_id}:
        raise IntegrityError(
            f"{root}/manifests: the manifest of {name} is not what its hash says. A person has to look."
        )
    return manifest


def save(root: Path, name: str, manifest: Manifest, now_ms: int) -> Manifest:
    """Keep `manifest` as that of `name`, once: the one that is kept, where another process was quicker."""
    folder = root / "manifests"
    app = f"slipher/manifest/{name}"
    _ensure(folder)
    for _ in range(TRIES):
        table = DeltaTable(str(folder))
        if app in read_app_ids(folder):
            kept = load(root, name)
            assert kept is not None
            return kept
        try:
            write_deltalake(
                table,
                _rows(name, manifest, now_ms),
                mode="append",
                commit_properties=CommitProperties(app_transactions=[Transaction(app, 1)]),
            )
            return manifest
        except CommitFailedError:
            continue  # another one was quicker
    raise TroubleError(f"{folder} accepts no commit after {TRIES} tries: is its disk full or read-only?")


def _rows(name: str, manifest: Manifest, now_ms: int) -> pa.Table:
    pieces = manifest.pieces
    entries = [manifest.files[piece.file] for piece in pieces]
    n = len(pieces)
    columns = [
        [manifest.topic_id] * n,
        [name] * n,
        [piece.partition for piece in pieces],
        [piece.offset for piece in pieces],
        [piece.end for piece in pieces],
        [entry.name for entry in entries],
        [piece.record for piece in pieces],
        [entry.kind for entry in entries],
        [entry.size for entry in entries],
        [entry.sha256 for entry in entries],
        [piece.stretch.begin for piece in pieces],
        [piece.stretch.end for piece in pieces],
        [now_ms * 1000] * n,
        [version("slipher")] * n,
    ]
    return pa.table([pa.array(c, f.type) for c, f in zip(columns, MANIFESTS, strict=True)], schema=MANIFESTS)


def _ensure(folder: Path) -> None:
    try:
        DeltaTable(str(folder))
    except TableNotFoundError:
        try:
            DeltaTable.create(str(folder), MANIFESTS, configuration=CONFIGURATION)
        except (DeltaError, OSError):
            DeltaTable(str(folder))  # another process was quicker
