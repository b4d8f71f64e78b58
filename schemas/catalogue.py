"""The tables of a catalogue, column by column, with units and UCDs.

A catalogue is a directory of five Delta tables. Their schemas are a promise to users' data: columns are only ever added.

``rows``        one row per galaxy, partitioned by ``night`` and ``model``.
``exceptions``  the exceptions ledger: offsets, or rows of them, that gave no catalogue row, and why.
``models``      which bundle, bands and redshift grid stand behind a processing id.
``topics``      which topic id a topic's name meant: a recreated topic has another id and must stop its readers.
``operations``  what was done by hand beside the nightly reading: replays, retries, withdrawals. Catalogues of older
                versions lack it: whoever reads it takes that as empty, whoever writes makes it.

An output row is identified by (processing_id, topic_id, kafka_partition, kafka_offset, kafka_row). Together ``rows`` and
``exceptions`` account for every offset once. Of files at rest (``slipher backfill``) a table ``manifests`` says which record of
which file an offset is.
"""

import pyarrow as pa

from schemas.pdf_form import PdfForm as PdfForm

REST = -1  # kafka_row of an exception: the whole message, or what is left of it beside the rows listed one by one
PAYLOAD_BOUND = 1 << 20  # bytes of a refused message that the ledger keeps

ROW_PARTITIONS = ("night", "model")

_TIME = pa.timestamp("us", tz="UTC")
_PDF = pa.list_(pa.field("element", pa.float32(), nullable=False))


def _column(name: str, kind: pa.DataType, text: str, unit: str = "", ucd: str = "", nullable: bool = False) -> pa.Field:
    about = {"description": text}
    if unit:
        about["unit"] = unit
    if ucd:
        about["ucd"] = ucd
    return pa.field(name, kind, nullable=nullable, metadata=about)


def _redshift(name: str, text: str, ucd: str = "src.redshift.phot") -> pa.Field:
    return _column(name, pa.float32(), text, ucd=ucd, nullable=True)


ROWS = pa.schema(
    [
        _column("night", pa.string(), "observing night (dayobs)", ucd="time.epoch;obs"),
        _column(
            "model", pa.string(), "name of the processing: kind-survey-first 8 of its id", ucd="meta.id;meta.modelled"
        ),
        _column("survey", pa.string(), "photometric system of the fluxes", ucd="meta.id;instr.obsty"),
        _column("object_id", pa.string(), "the survey's identifier of the galaxy", ucd="meta.id;src"),
        _column("alert_id", pa.string(), "the survey's identifier of the alert", ucd="meta.id"),
        _column("ra", pa.float64(), "right ascension, ICRS", "deg", "pos.eq.ra;meta.main"),
        _column("dec", pa.float64(), "declination, ICRS", "deg", "pos.eq.dec;meta.main"),
        _column("_healpix_29", pa.int64(), "HEALPix index of order 29, nested", ucd="pos.healpix"),
        _column("mjd", pa.float64(), "time of the event in the survey's time scale", "d", "time.epoch", nullable=True),
        _redshift("z_mode", "peak of the PDF"),
        _redshift("z_mean", "mean of the PDF"),
        _redshift("z_median", "median of the PDF"),
        _redshift("z_best", "least expected loss 1 - 1/(1 + (dz/(1+z)/0.15)^2)"),
        _redshift("z_best_risk", "the expected loss at z_best, 0 to 1", "stat.error;src.redshift.phot"),
        _redshift("z_sigma", "standard deviation of the PDF", "stat.stdev;src.redshift.phot"),
        _redshift("z_lo68", "lower end of the central 68 % interval", "stat.interval;src.redshift.phot"),
        _redshift("z_hi68", "upper end of the central 68 % interval", "stat.interval;src.redshift.phot"),
        _redshift("z_lo95", "lower end of the central 95 % interval", "stat.interval;src.redshift.phot"),
        _redshift("z_hi95", "upper end of the central 95 % interval", "stat.interval;src.redshift.phot"),
        _redshift("odds_0p03", "probability within 0.03 (1 + z_best) of z_best", "stat.probability;src.redshift.phot"),
        _column(
            "mag_ref",
            pa.float32(),
            "dereddened asinh magnitude in the reference band",
            "mag",
            "phot.mag",
            nullable=True,
        ),
        _column("ebv", pa.float32(), "Galactic E(B-V) as received", "mag", "phot.color.excess", nullable=True),
        _column("flags", pa.int32(), "bit field, see the documentation of the catalogue", ucd="meta.code.qual"),
        _column("band_mask", pa.int32(), "bit b: band b entered the estimate", ucd="meta.code;instr.bandpass"),
        _column("nondetection_mask", pa.int32(), "bit b: band b is a non-detection", ucd="meta.code;instr.bandpass"),
        _column("pdf", _PDF, "p(z) on the grid in the models table", ucd="stat.pdf;src.redshift.phot", nullable=True),
        _column("cluster_id", pa.string(), "Kafka cluster the message came from", ucd="meta.id"),
        _column("topic", pa.string(), "its topic", ucd="meta.id"),
        _column("topic_id", pa.string(), "id of the topic: a recreated topic has another", ucd="meta.id"),
        _column("kafka_partition", pa.int32(), "its partition", ucd="meta.number"),
        _column("kafka_offset", pa.int64(), "its offset", ucd="meta.number"),
        _column("kafka_row", pa.int32(), "row within the message", ucd="meta.number"),
        _column("kafka_timestamp", _TIME, "Kafka's time of the message", ucd="time.release", nullable=True),
        _column("ingest_time", _TIME, "when this row was computed", ucd="time.processing"),
        _column("processing_id", pa.string(), "hash of all that determines a row", ucd="meta.id;meta.version"),
        _column("slipher_version", pa.string(), "software that wrote this row", ucd="meta.version;meta.software"),
        _column(
            "pdf_u8",
            pa.binary(),  # Delta has no unsigned bytes, and a list of integers costs seven times as long to write
            "compact form of p(z), where pdf is null: a byte a point, 255 at the peak, not normalised",
            ucd="stat.pdf;src.redshift.phot",
            nullable=True,
        ),
    ]
)

EXCEPTIONS = pa.schema(
    [
        _column("processing_id", pa.string(), "as in the rows table"),
        _column("cluster_id", pa.string(), "as in the rows table"),
        _column("topic", pa.string(), "as in the rows table"),
        _column("topic_id", pa.string(), "as in the rows table"),
        _column("kafka_partition", pa.int32(), "as in the rows table"),
        _column("offset_start", pa.int64(), "first offset of the range"),
        _column("offset_end", pa.int64(), "one past the last offset of the range"),
        _column("kafka_row", pa.int32(), "row within the message; -1: all of it that is not listed by row"),
        _column("reason", pa.string(), "why there is no catalogue row: see schemas.batch.Reason"),
        _column("text", pa.string(), "the same in a sentence"),
        _column("byte_position", pa.int64(), "where in the payload the trouble stands, -1 where unknown"),
        _column("payload", pa.binary(), "the message, up to 1 MiB", nullable=True),
        _column("payload_size", pa.int64(), "its whole size", "byte"),
        _column("kafka_timestamp", _TIME, "Kafka's time of the message", nullable=True),
        _column("ingest_time", _TIME, "when this was listed"),
        _column("slipher_version", pa.string(), "software that listed it"),
    ]
)

MODELS = pa.schema(
    [
        _column("processing_id", pa.string(), "identity of everything that determines a row"),
        _column("model", pa.string(), "its readable name, the partition column of the rows table"),
        _column("kind", pa.string(), "kind of estimator"),
        _column("survey", pa.string(), "photometric system"),
        _column("bands", pa.list_(pa.string()), "bands, in the order of the bits of band_mask"),
        _column("z_grid", pa.list_(pa.float64()), "redshifts of the points of the pdf column", ucd="src.redshift.phot"),
        _column("bundle_sha256", pa.string(), "content hash of the model bundle"),
        _column("decoder", pa.string(), "decoder and its version"),
        _column("settings", pa.string(), "JSON: the settings that change rows"),
        _column("card", pa.string(), "JSON: the bundle's card: training set, hyper-parameters, held-out metrics"),
        _column("registered", _TIME, "when this processing id first wrote here"),
    ]
)

MANIFESTS = pa.schema(  # only where files at rest were read: one row per stretch of a file
    [
        _column("topic_id", pa.string(), "hash of the whole manifest: stands in the rows for a topic's id"),
        _column("topic", pa.string(), "the name that the files were given, as in the rows table"),
        _column("kafka_partition", pa.int32(), "the shard"),
        _column("offset_start", pa.int64(), "offset of the stretch's first message"),
        _column("offset_end", pa.int64(), "one past the offset of its last"),
        _column("file", pa.string(), "name of the file, from the folder that all files have in common"),
        _column("record_start", pa.int64(), "number in the file, from 0, of the message at offset_start"),
        _column("kind", pa.string(), "packets, tarball, parquet or table"),
        _column("size", pa.int64(), "size of the file", "byte"),
        _column("sha256", pa.string(), "of its content"),
        _column("begin", pa.int64(), "first byte of the stretch, of Parquet the first row group"),
        _column("end", pa.int64(), "one past the last"),
        _column("frozen", _TIME, "when the manifest was frozen"),
        _column("slipher_version", pa.string(), "software that froze it"),
    ]
)

TOPICS = pa.schema(
    [
        _column("processing_id", pa.string(), "who reads it"),
        _column("cluster_id", pa.string(), "Kafka cluster"),
        _column("topic", pa.string(), "the topic's name"),
        _column("topic_id", pa.string(), "what the name meant"),
        _column("bound", _TIME, "since when; the newest binding holds"),
    ]
)

OPERATIONS = pa.schema(
    [
        _column("operation_id", pa.string(), "one for all rows of an operation"),
        _column("kind", pa.string(), "replay, retry, withdraw or retire"),
        _column("state", pa.string(), "begun: may have written in the range; done: has settled all of it"),
        _column("processing_id", pa.string(), "whose rows are meant, as in the rows table"),
        _column("model", pa.string(), "its readable name"),
        _column("topic", pa.string(), "as in the rows table"),
        _column("topic_id", pa.string(), "as in the rows table"),
        _column("kafka_partition", pa.int32(), "as in the rows table"),
        _column("offset_start", pa.int64(), "first offset of the range"),
        _column("offset_end", pa.int64(), "one past the last offset of the range"),
        _column("night", pa.string(), "the night that was named, if one was", nullable=True),
        _column("text", pa.string(), "JSON: what was asked for, and what came of it"),
        _column("time", _TIME, "when this was recorded"),
        _column("slipher_version", pa.string(), "software that recorded it"),
    ]
)

TABLES = {"rows": ROWS, "exceptions": EXCEPTIONS, "models": MODELS, "topics": TOPICS, "operations": OPERATIONS}
LATER = ("operations",)  # tables that a catalogue of an older version lacks
