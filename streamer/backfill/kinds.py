"""Kinds of files: what the first bytes say, or else the name; how each is cut into stretches, and read."""

from pathlib import Path
from typing import Any, NamedTuple

from schemas.bands import BandSet
from schemas.batch import Reason
from schemas.errors import IntegrityError
from streamer.backfill import packets, tables, tarballs
from streamer.backfill.at_rest import Fault, FileAtRest, Item, Items, Kind, Stretch

_HEAD = 512
_USTAR = slice(257, 262)
_TARBALLS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
_TABLES = (".csv", ".csv.gz", ".fits", ".fit", ".fits.gz", ".fit.gz", ".feather", ".arrow", ".hdf5", ".h5", ".hdf")
_MAGIC: dict[bytes, Kind] = {
    b"Obj\x01": "packets",
    b"PAR1": "parquet",
    b"ARROW1": "table",
    b"\x89HDF\r\n\x1a\n": "table",
    b"SIMPLE  =": "table",
    b"\xff\xff\xff\xff": "packets",  # an Arrow stream is a message
}


class Manner(NamedTuple):
    """What else reading needs to know.

    Attributes
    ----------
    bands
        Of the galaxies in tables; None = packets of a survey are read, and tables are none.
    bare
        The schema of packets without any framing.
    alerts
        Name of the packets, for people.
    """

    bands: BandSet | None
    bare: Any = None
    alerts: str = "native"


def kind(file: FileAtRest) -> Kind:
    """What `file` is. What is nothing known is a packet, which the decoder will refuse with a reason."""
    head, name = file[0:_HEAD], file.path.name.lower()
    for magic, known in _MAGIC.items():
        if head.startswith(magic):
            return known
    if tarballs.unpacked(file, _HEAD)[_USTAR] == b"ustar" or name.endswith(_TARBALLS):
        return "tarball"
    if name.endswith((".parquet", ".pq")):
        return "parquet"
    return "table" if name.endswith(_TABLES) else "packets"


def cut(file: FileAtRest, what: Kind) -> list[Stretch]:
    """The stretches of `file`, from its first message to its last."""
    cutters = {
        "packets": packets.cut,
        "tarball": tarballs.cut,
        "parquet": tables.cut_parquet,
        "table": tables.cut,
    }
    return cutters[what](file)


def items(file: FileAtRest, what: Kind, stretch: Stretch, record: int, skip: int, manner: Manner) -> Items:
    """The messages of a stretch but for the first `skip`, None where some were stepped over.

    Parameters
    ----------
    file
        It is `what`.
    stretch
        As ``cut`` gave it; its first message is number `record` of the file.
    manner
        How to read.

    Raises
    ------
    Changed
        The file is another one than when it was cut.
    """
    begin, end, n = stretch
    reader = packets.Packets(manner.bare)
    if what == "tarball":
        return tarballs.items(file, begin, end, skip, reader)
    if what == "packets":
        return reader.items(file, begin, end, skip)
    if manner.bands is None:
        text = f"a table of galaxies, where packets of {manner.alerts} are read"
        return iter([Item(None, Fault(Reason.WRONG_SURVEY, text))] * (n - skip))
    if what == "parquet":
        return tables.parquet_items(file, begin, end, skip, record, manner.bands)
    return tables.items(file, begin, end, skip, manner.bands)


def miscounted(path: Path, counted: int, read: int) -> IntegrityError:
    """A fault of ours, or of the memory of the machine: it must not be written over."""
    return IntegrityError(
        f"{path}: the manifest says {counted:,} messages, {read:,} were read. Nothing more is written."
    )
