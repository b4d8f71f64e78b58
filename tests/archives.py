"""Archives made here: nights of packets in every form that surveys publish, whole and broken."""

import io
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import fastavro

from streamer.backfill.at_rest import FileAtRest, Item, look
from streamer.backfill.freeze import Archive, freeze
from streamer.backfill.kinds import Manner, cut, items, kind
from streamer.backfill.manifest import gathered
from tests.made_packets import ZTF, container, neighbour, ztf_alert

GALAXY = neighbour(1, (20.5, 19.5, 19.0, 18.7), 0.1, 2.0)


def ztf(first: int, last: int, codec: str = "null", block: int = 16_000) -> bytes:
    """A container of the ZTF alerts number `first` to `last` - 1."""
    out = io.BytesIO()
    alerts = [ztf_alert(k, **GALAXY) for k in range(first, last)]
    fastavro.writer(out, ZTF, alerts, codec=codec, sync_interval=block, sync_marker=bytes(range(16)))
    return out.getvalue()


def singles(first: int, last: int) -> dict[str, bytes]:
    """The same alerts as files of one, by name, as ZTF has them."""
    return {f"{3_000_000_000_000 + k}.avro": container(ZTF, [ztf_alert(k, **GALAXY)]) for k in range(first, last)}


def candids(first: int, last: int) -> set[str]:
    """Alert ids of those alerts."""
    return {str(3_000_000_000_000 + k) for k in range(first, last)}


def tarball(path: Path, members: Mapping[str, bytes], mode: str = "w:gz") -> Path:
    """`members` in a tarball at `path`."""
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def messages(path: Path, manner: Manner = Manner(None), skip: int = 0) -> list[Item]:
    """The messages of the file at `path`, through all its stretches, but for the first `skip` of each."""
    with FileAtRest(path, look(path)) as file:
        what = kind(file)
        found: list[Item] = []
        record = 0
        for stretch in cut(file, what):
            some = [item for item in items(file, what, stretch, record, skip, manner) if item is not None]
            assert len(some) == max(stretch.messages - skip, 0)
            found += some
            record += stretch.messages
        return found


def faults(found: Sequence[Item]) -> list[str]:
    """What of `found` cannot be read."""
    return [item.fault.text for item in found if item.fault is not None]


def archive(*paths: Path) -> Archive:
    """`paths`, frozen."""
    return freeze(*gathered(paths))
