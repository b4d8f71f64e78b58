"""Puts a backfill together: files, manifest, model, decoder, what is durable already; and engines over its shards."""

import logging
import re
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from consumers.rows import Provenance
from models.estimator import Estimator, load
from schemas.avro import read_schema
from schemas.bands import band_set
from schemas.errors import IntegrityError, UserError
from schemas.processing import Processing
from streamer.alerts import NATIVE, Alerts, alerts
from streamer.backfill.freeze import Archive, found_again, freeze, total
from streamer.backfill.kinds import Manner
from streamer.backfill.manifest import CLUSTER, Manifest, default_name, gathered
from streamer.backfill.store import load as load_manifest
from streamer.backfill.store import save
from streamer.backfill.worker import FilesSink, FilesWorker
from streamer.engine import Engine
from streamer.run import identity_of, now_ms
from streamer.settings import BackfillSettings
from streamer.settler import Limits
from streamer.sink.appids import app_id, read_app_ids
from streamer.sink.catalogue import bind, ensure, register
from streamer.sink.entries import Identity
from streamer.source.files import FilesSource
from streamer.tally import Progress
from streamer.workers import kind_of_worker
from streamer.workers import worker as worker_of

log = logging.getLogger(__name__)

FRAMINGS = ("auto", "avro")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,200}")


class Recipe(NamedTuple):
    """How messages become rows.

    Attributes
    ----------
    estimator, alerts
        The model, and the decoder for what it was trained for.
    processing
        The same as that of `slipher run` with the same model and options: rows of a topic and of files stand as one.
    manner
        How files are read.
    """

    estimator: Estimator
    alerts: Alerts
    processing: Processing
    manner: Manner


class Backfill(NamedTuple):
    """What is to be done.

    Attributes
    ----------
    settings
        As given.
    name
        Of the files: stands in the rows for a topic.
    archive
        The files and their manifest.
    positions
        Below which each shard is durable.
    processing
        The identity of the rows.
    new
        The manifest was frozen now.
    """

    settings: BackfillSettings
    name: str
    archive: Archive
    positions: dict[int, int]
    processing: Processing
    new: bool

    @property
    def left(self) -> list[int]:
        """Shards that are not durable to their end."""
        return [p for p, end in self.archive.manifest.ends.items() if self.positions[p] < end]

    @property
    def durable(self) -> int:
        """Messages that are durable."""
        return sum(self.positions.values())


def recipe(settings: BackfillSettings) -> Recipe:
    """Read the model, choose the decoder.

    Raises
    ------
    UserError
        Bundle or settings are not what they should be.
    """
    if settings.framing not in FRAMINGS:
        raise UserError(
            f"--framing {settings.framing}: files say themselves what they are (auto); or, for packets without any header, avro."
        )
    estimator = load(settings.model, settings.device)
    kind_of_worker(settings, estimator.kind)
    read = alerts(settings, estimator)
    bare = None
    if settings.framing == "avro":  # each packet is put into a container with its schema, so that they mix with others
        bare = read_schema(Path(next(name for name in settings.schema_file if not _by_id(name))))
        others = [name for name in settings.schema_file if _by_id(name)]
        mixed = alerts(settings.model_copy(update={"framing": "auto", "schema_file": others}), estimator)
        identity = identity_of(settings, estimator, read)
        read = read._replace(decoder=mixed.decoder)
    else:
        identity = identity_of(settings, estimator, read)
    bands = band_set(estimator.survey) if settings.alerts == NATIVE else None
    return Recipe(estimator, read, identity, Manner(bands, bare, settings.alerts))


def prepare(
    settings: BackfillSettings,
    files: Sequence[Path],
    name: str | None = None,
    begin: Callable[[int], None] = lambda nbytes: None,
    on_bytes: Callable[[int], None] = lambda n: None,
) -> Backfill:
    """Freeze the manifest of `files`, or find the frozen one and look whether its files are still those.

    Nothing is written; ``keep`` does that.

    Parameters
    ----------
    settings
        What to do.
    files
        Files and folders.
    name
        What to call them; by default the name of the only one, or of the folder that they are in.
    begin, on_bytes
        Called with the bytes that will be hashed, and those that will be cut; then with those that were, since the last call.

    Raises
    ------
    UserError
        Files are missing, are others than those that the catalogue knows by this name, or cannot be read at all.
    """
    made = recipe(settings)
    folder, names = gathered(files)
    called = name or re.sub(r"[^A-Za-z0-9._-]", "-", default_name(files))[:200]
    if not _NAME.fullmatch(called):
        raise UserError(f"--name {called}: letters, digits, dots, - and _ make a name.")
    known = load_manifest(settings.catalog, called)
    if known is None:
        begin(2 * total(folder, names))
        archive = freeze(folder, names, on_bytes)
        return Backfill(
            settings, called, archive, _positions(settings, made.processing, archive.manifest), made.processing, True
        )
    _same_files(called, known, folder, names)
    positions = _positions(settings, made.processing, known)
    due = known.files_of(p for p, end in known.ends.items() if positions[p] < end)
    begin(total(folder, (known.files[k].name for k in due)))
    archive = found_again(folder, known, due, on_bytes)
    return Backfill(settings, called, archive, positions, made.processing, False)


def keep(planned: Backfill) -> None:
    """Write down what is to be done: the catalogue, the manifest, the model, what the name means.

    Raises
    ------
    IntegrityError
        Somebody else froze another manifest of this name meanwhile.
    """
    catalog, what, manifest = planned.settings.catalog, planned.processing, planned.archive.manifest
    ensure(catalog)
    if save(catalog, planned.name, manifest, now_ms()).topic_id != manifest.topic_id:
        raise IntegrityError(f"Other files were given the name {planned.name} a moment ago: choose another --name.")
    bind(catalog, what.id, CLUSTER, planned.name, manifest.topic_id, now_ms())
    estimator = load(planned.settings.model)
    register(catalog, what, list(estimator.bands), [float(z) for z in estimator.grid], estimator.card, now_ms())


def engine(
    planned: Backfill,
    shards: Sequence[int],
    on_commit: Callable[[Progress], None] = lambda progress: None,
    point: Callable[[int], None] = lambda step: None,
) -> tuple[Engine, FilesSource]:
    """An engine over some shards of a backfill that is written down, and its source."""
    made = recipe(planned.settings)
    settings, what, topic_id = planned.settings, made.processing, planned.archive.manifest.topic_id
    origin = Provenance(what, CLUSTER, planned.name, topic_id, version("slipher"))
    source = FilesSource(planned.archive, shards, made.manner)
    worker = FilesWorker(
        worker_of(settings, made.estimator, made.alerts, origin, now_ms), planned.archive.manifest, source
    )
    sink = FilesSink(
        settings.catalog, Identity(what.id, CLUSTER, planned.name, topic_id, origin.version), now_ms, point
    )

    def first(partitions: list[int], known: bool) -> dict[int, int]:
        return dict.fromkeys(partitions, 0)

    limits = Limits(settings.commit_rows, settings.commit_seconds, settings.refused_limit, settings.refused_in_a_row)
    log.info("model %s (processing %s) reads %d shards of %s", what.model, what.id, len(shards), planned.name)
    return Engine(source, worker, sink, first, limits=limits, until_end=True, on_commit=on_commit), source


def durable(planned: Backfill) -> int:
    """Messages that are durable now."""
    return sum(_positions(planned.settings, planned.processing, planned.archive.manifest).values())


def _positions(settings: BackfillSettings, what: Processing, manifest: Manifest) -> dict[int, int]:
    folder = settings.catalog / "rows"
    found = read_app_ids(folder) if (folder / "_delta_log").is_dir() else {}
    return {p: found.get(app_id(what.id, manifest.topic_id, p, "offset"), 0) for p in manifest.shards}


def _same_files(name: str, known: Manifest, folder: Path, names: Sequence[str]) -> None:
    """The files of a name never change."""
    frozen = {entry.name for entry in known.files}
    new, gone = sorted(set(names) - frozen), sorted(frozen - set(names))
    if not new and not gone:
        return
    said = [f"{len(some):,} {what} ({some[0]})" for some, what in ((new, "are new"), (gone, "are missing")) if some]
    raise UserError(
        f"The catalogue knows {len(frozen):,} files by the name {name}, and of those given now in {folder} {' and '.join(said)}. "
        "A manifest never changes: give other files another --name."
    )


def _by_id(text: str) -> bool:
    number, sign, _ = text.partition("=")
    return bool(sign) and number.isdecimal()
