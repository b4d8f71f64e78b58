"""The model, the schema registry, the table and the disk that it stands on."""

import os
import shutil
import statistics
import time
import uuid
from pathlib import Path

from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from schemas.errors import SlipherError
from streamer.doctor.finding import Finding, note, ok, skipped, wrong
from streamer.registry.connection import Away, Connection, Missing
from streamer.run import Method, method
from streamer.settings import ProcessingSettings
from streamer.sink.store import is_local, refuse_blind
from streamer.sink.torn import refuse_torn

FULL, NEARLY = 1e9, 10e9  # bytes left on the disk: a night of Rubin is some 30 GB of plain PDFs
SLOW_S = 0.05  # of an fsync: a commit makes some ten
TABLES = ("rows", "exceptions", "topics", "models")


def model(settings: ProcessingSettings) -> tuple[list[Finding], Method | None]:
    """Whether the model opens and the alerts have its bands; what it was for the group's name."""
    try:
        made = method(settings)
    except SlipherError as error:
        return [wrong("model", str(error), "Mend --model, --alerts, --schema or --dust-map.")], None
    size = settings.model.stat().st_size / 1e6
    bands = "".join(band if len(band) == 1 else f" {band}" for band in made.estimator.bands)
    return [
        ok("model", f"{made.processing.model}, {size:.0f} MB, bands {bands}; {settings.alerts} alerts have them")
    ], made


def registry(address: str, settings: dict[str, str], seconds: float) -> list[Finding]:
    """Whether the registry answers as one, and takes our credentials."""
    if not address:
        return [skipped("registry", "none is given: schemas come with the messages, or from --schema")]
    connection = Connection(address, settings)
    try:
        connection.get("/schemas/ids/0", seconds)
    except Missing:
        pass
    except Away as away:
        return [wrong("registry", f"{connection.address}: {away}")]
    return [ok("registry", f"{connection.address} answers, and takes us in")]


def table(root: Path) -> list[Finding]:
    """Whether it can be written and read: no torn log, tables that open, how fast the disk is."""
    there = root.is_dir()
    if not is_local(root):
        refuse_blind(root)
        return [
            ok("table", f"{root} is written and keeps what is there; {_opened(root)}"),
            skipped("disk", "no disk of ours"),
        ]
    place = next(folder for folder in (root, *root.absolute().parents) if folder.exists())
    free = _free(place)
    try:
        took = _fsync(place)
    except OSError as error:
        mend = "Choose another --catalog, or mend its permissions; a container needs it mounted for writing."
        return [wrong("table", f"{place} cannot be written: {error.strerror}", mend), free]
    if there:
        refuse_torn(root, list(TABLES))
    said = _opened(root) if there else "it is not there yet: the first worker makes it"
    if took > SLOW_S:
        mend = "A commit makes some ten: raise --commit-seconds, or use a local disk."
        return [note("table", f"{root}: {said}; an fsync takes {took * 1000:.0f} ms", mend), free]
    return [ok("table", f"{root}: {said}; an fsync takes {took * 1000:.1f} ms"), free]


def _opened(root: Path) -> str:
    """The rows table in words; raises what Delta's library raises where it cannot be opened."""
    try:
        rows = DeltaTable(str(root / "rows"))
    except TableNotFoundError:
        return "no rows yet"
    protocol = rows.protocol()
    return (
        f"version {rows.version():,}, {len(rows.file_uris()):,} files, protocol {protocol.min_reader_version}/"
        f"{protocol.min_writer_version}"
    )


def _fsync(folder: Path) -> float:
    """Seconds that writing a page to the disk takes, the median of five."""
    path = folder / f".probe-{uuid.uuid4().hex}"
    took = []
    try:
        with path.open("xb") as file:
            for _ in range(5):
                begun = time.monotonic()
                file.write(bytes(4096))
                file.flush()
                os.fsync(file.fileno())
                took.append(time.monotonic() - begun)
    finally:
        path.unlink(missing_ok=True)
    return statistics.median(took)


def _free(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free
    text = f"{free / 1e9:,.1f} GB free at {folder}: some {free / 1300 / 1e6:,.0f} million rows with plain PDFs"
    if free < FULL:
        return wrong("disk", text, "Make room: a commit that finds none waits, and nothing more becomes durable.")
    if free < NEARLY:
        return note("disk", text, "Make room soon; `slipher catalog vacuum` deletes what was replaced.")
    return ok("disk", text)
