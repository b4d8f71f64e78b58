"""The stamp of an object: from the message that its row came from, where Kafka still has it, or from a table of stamps."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from schemas import table_metadata
from schemas.bands import BAND_SETS
from schemas.batch import Float32
from schemas.errors import UserError


class Stamp(NamedTuple):
    """Images of one galaxy.

    Attributes
    ----------
    bands
        Of the planes; of a survey's cutouts one, the name of the cutout.
    planes
        float32[B, height, width], NaN where a pixel has no value; rows from south to north as a rule.
    scale
        Arcsec a pixel; 0 = unknown.
    where
        Where it was found, for people.
    """

    bands: tuple[str, ...]
    planes: Float32
    scale: float
    where: str


def of_topic(row: Mapping[str, Any], kafka: Mapping[str, Any], registry: str = "", settings: Any = None) -> Stamp:
    """The stamp in the message that a catalogue's row came from.

    Parameters
    ----------
    row
        Of the rows table: topic, topic_id, kafka_partition, kafka_offset, kafka_row are looked at.
    kafka
        librdkafka settings, ``bootstrap.servers`` among them.
    registry, settings
        Address of a schema registry, and its settings; "" = none.

    Raises
    ------
    UserError
        The message is gone, the topic is another of that name, or there is no stamp in it.
    TroubleError
        No broker answers.
    """
    from schemas import elasticc_alerts
    from schemas.inspection.inspect import Options, inspect
    from schemas.surveys.native import known_avro_schemas
    from schemas.wire.confluent import KnownSchemas
    from streamer.peek import peek
    from streamer.source.connection import identify

    topic, partition, offset = row["topic"], row["kafka_partition"], row["kafka_offset"]
    held = identify(dict(kafka), topic)
    if held.topic_id != row["topic_id"]:
        raise UserError(f"The topic {topic} was recreated since: the message of this row is gone.")
    found = peek(topic, partition, offset, kafka)
    schemas: Any = KnownSchemas([*known_avro_schemas(), elasticc_alerts.AVRO_SCHEMA])
    if registry:
        from streamer.registry import client

        schemas = client.registry(registry, settings)
    seen = inspect(found.payload, Options(schemas), found.timestamp_ms)
    where = f"{topic}[{partition}] offset {offset}"
    rows = seen.galaxies.row.tolist()
    if row["kafka_row"] not in rows:
        raise UserError(f"The message at {where} gives no row {row['kafka_row']}: `slipher inspect` says why.")
    i = rows.index(row["kafka_row"])
    stamps = seen.galaxies.stamps
    if stamps is not None and stamps.pixels[i].as_py() is not None:
        blob, size = stamps.pixels[i].as_py(), (int(stamps.height[i]), int(stamps.width[i]))
        return _native(blob, size, float(stamps.scale[i]), seen.galaxies.bands, where)
    return _cutout(seen.cutouts[i] if seen.cutouts else {}, where)


def of_table(path: str | Path, object_id: str, survey: str) -> Stamp:
    """The stamp of an object in a Parquet table with the columns object_id, stamp_height, stamp_width and stamp_pixels.

    Parameters
    ----------
    path
        Such as `slipher simulate` writes.
    object_id
        Whose stamp; of several rows the first that has one.
    survey
        Fixes the bands, in the order of the planes.

    Raises
    ------
    UserError
        The file is no such table, of another survey, or has no stamp of the object.
    """
    import pyarrow as pa
    import pyarrow.dataset as ds

    wanted = ["stamp_height", "stamp_width", "stamp_pixels"]
    if not Path(path).exists():
        raise UserError(f"There is no table of stamps {path}; --stamp topic looks into Kafka.")
    try:
        table = ds.dataset(path, format="parquet")
        said = table_metadata.of_schema(table.schema).get(table_metadata.SURVEY, survey)
        if said != survey:
            raise UserError(f"{path} is a table of survey {said}, by its metadata, and {object_id} is of {survey}.")
        lacking = [name for name in ("object_id", *wanted) if name not in table.schema.names]
        if lacking:
            raise UserError(f"{path} has no column {', '.join(lacking)}: it is no table of stamps.")
        more = [name for name in ("stamp_scale",) if name in table.schema.names]
        named = ds.field("object_id").cast(pa.string()) == object_id
        rows = table.to_table(columns=wanted + more, filter=named & ds.field("stamp_pixels").is_valid())
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path} cannot be read as Parquet: {str(error).splitlines()[0]}") from None
    if not len(rows):
        raise UserError(f"{path} has no stamp of {object_id}.")
    row = rows.slice(0, 1).to_pylist()[0]
    bands = BAND_SETS[survey].bands if survey in BAND_SETS else ()
    size = (int(row["stamp_height"] or 0), int(row["stamp_width"] or 0))
    return _native(row["stamp_pixels"], size, float(row.get("stamp_scale") or 0.0), bands, str(path))


def _native(blob: bytes, size: tuple[int, int], scale: float, bands: tuple[str, ...], where: str) -> Stamp:
    height, width = size
    if min(size) < 1 or not bands or len(blob) != 4 * len(bands) * height * width:
        raise UserError(f"The stamp in {where} has {len(blob)} bytes: not {len(bands)} planes of {height} x {width}.")
    planes = np.frombuffer(blob, "<f4").reshape(len(bands), height, width).astype(np.float32)
    return Stamp(bands, np.where(np.isfinite(planes), planes, np.float32(np.nan)), scale, where)


def _cutout(cutouts: Mapping[str, bytes | None], where: str) -> Stamp:
    """The image that shows the host best: the template, else the first there is."""
    from streamer.cutout_picture import NoPicture, stamp_pixels

    why = "it carries none"
    for name in sorted(cutouts, key=lambda name: "template" not in name.lower()):
        data = cutouts[name]
        if not data:
            continue
        try:
            return Stamp((name,), np.asarray(stamp_pixels(data), np.float32)[None], 0.0, where)
        except NoPicture as error:
            why = str(error)
    raise UserError(f"There is no stamp in the message at {where}: {why}.")
