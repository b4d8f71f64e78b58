"""Manifests: which files, which shards, which record is which offset; the same files always give the same hash."""

import os
from pathlib import Path

import pytest
from deltalake import DeltaTable
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import IntegrityError, TroubleError, UserError
from streamer.backfill import freeze as freezing
from streamer.backfill import manifest as manifests
from streamer.backfill import packets
from streamer.backfill.at_rest import Stretch
from streamer.backfill.crew import shares
from streamer.backfill.freeze import found_again
from streamer.backfill.manifest import Entry, assembled, default_name, gathered
from streamer.backfill.store import load, save
from tests.archives import archive, messages, singles, tarball, ztf

NOW = 1_780_000_000_000


def night(folder: Path) -> Path:
    """A folder of files of several kinds."""
    (folder / "b").mkdir(parents=True)
    (folder / "a.avro").write_bytes(ztf(0, 30, block=900))
    tarball(folder / "b" / "night.tar.gz", singles(30, 40))
    for name, content in singles(40, 43).items():
        (folder / "b" / name).write_bytes(content)
    (folder / "b" / "README").write_text("hello")
    (folder / "b" / "empty.avro").write_bytes(ztf(0, 0))
    (folder / ".hidden").write_text("not for us")
    return folder


def test_folders_are_walked_in_order(tmp_path: Path) -> None:
    there = night(tmp_path / "night")
    folder, names = gathered([there])
    assert folder == tmp_path
    assert names == [
        "night/a.avro",
        "night/b/3000000000040.avro",
        "night/b/3000000000041.avro",
        "night/b/3000000000042.avro",
        "night/b/README",
        "night/b/empty.avro",
        "night/b/night.tar.gz",
    ]
    assert gathered([there / "b" / "README", there / "a.avro", there / "a.avro"]) == (there, ["a.avro", "b/README"])
    assert gathered([there / "a.avro"]) == (there, ["a.avro"])
    assert default_name([there]) == "night"
    assert default_name([there / "a.avro", there / "b"]) == "night"
    assert default_name([there / "b" / "night.tar.gz"]) == "night"
    with pytest.raises(UserError, match=r"no file or folder .*nowhere"):
        gathered([there / "nowhere"])
    (tmp_path / "void").mkdir()
    with pytest.raises(UserError, match="no file in"):
        gathered([tmp_path / "void"])


def test_every_offset_is_a_record_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packets, "STRETCH_BYTES", 3_000)
    monkeypatch.setattr(manifests, "SHARD_MESSAGES", 12)
    found = archive(night(tmp_path / "night")).manifest
    assert found.messages == 30 + 10 + 3 + 1
    assert len(found.shards) > 3
    places = [found.where(p, o) for p, end in found.ends.items() for o in range(end)]
    assert [place.record for place in places if place.file == "night/a.avro"] == list(range(30))
    assert [place.record for place in places if place.file == "night/b/night.tar.gz"] == list(range(10))
    assert len({*places}) == found.messages
    assert "night/b/empty.avro" in {entry.name for entry in found.files}
    for partition, offset in ((0, found.ends[0]), (0, -1), (99, 0)):
        with pytest.raises(KeyError):
            found.where(partition, offset)


def test_the_hash_is_that_of_content_and_names(tmp_path: Path) -> None:
    first = archive(night(tmp_path / "one" / "night")).manifest
    there = night(tmp_path / "two" / "night")
    assert archive(there).manifest.topic_id == first.topic_id  # elsewhere on the disk
    assert len(first.topic_id) == 32
    data = bytearray((there / "a.avro").read_bytes())
    data[-20] ^= 1
    (there / "a.avro").write_bytes(data)
    assert archive(there).manifest.topic_id != first.topic_id
    (there / "a.avro").rename(there / "aa.avro")
    assert archive(there).manifest.topic_id != first.topic_id


@given(
    st.lists(
        st.tuples(st.integers(0, 400 << 20), st.lists(st.integers(0, 60_000), min_size=1, max_size=4)), max_size=30
    )
)
def test_shards_hold_everything_once_and_are_neither_many_nor_large(files: list[tuple[int, list[int]]]) -> None:
    found = assembled(
        (Entry(str(k), size, "", "packets"), [Stretch(j, j + 1, n) for j, n in enumerate(counts)])
        for k, (size, counts) in enumerate(files)
    )
    assert found.messages == sum(sum(counts) for _, counts in files)
    for k, (partition, pieces) in enumerate(found.shards.items()):
        assert partition == k
        assert [piece.offset for piece in pieces] == [
            sum(p.stretch.messages for p in pieces[:j]) for j in range(len(pieces))
        ]
        assert len(pieces) == 1 or found.ends[partition] <= manifests.SHARD_MESSAGES
    assert len(found.pieces) == sum(len(counts) for _, counts in files)
    assert all(end > 0 for end in [*found.ends.values()][:-1])


def test_it_is_kept_in_the_catalogue_as_it_was(tmp_path: Path) -> None:
    one = archive(night(tmp_path / "night")).manifest
    assert load(tmp_path, "night") is None
    assert save(tmp_path, "night", one, NOW).topic_id == one.topic_id
    kept = load(tmp_path, "night")
    assert kept is not None
    assert (kept.files, kept.pieces) == (one.files, one.pieces)
    other = archive(tmp_path / "night" / "a.avro").manifest
    assert save(tmp_path, "night", other, NOW).topic_id == one.topic_id  # the first stays
    assert save(tmp_path, "other", other, NOW).topic_id == other.topic_id
    table = DeltaTable(str(tmp_path / "manifests"))
    assert table.version() == 2
    table.delete("file = 'night/b/README'")
    with pytest.raises(IntegrityError, match="not what its hash says"):
        load(tmp_path, "night")


def test_files_that_changed_are_found_again_by_their_content(tmp_path: Path) -> None:
    there = night(tmp_path / "night")
    first = archive(there)
    hashed = []
    numbers = list(range(len(first.manifest.files)))
    assert found_again(tmp_path, first.manifest, numbers, hashed.append).changed == {}
    assert sum(hashed) == first.manifest.nbytes
    data = bytearray((there / "a.avro").read_bytes())
    data[-20] ^= 1
    (there / "a.avro").write_bytes(data)
    os.utime(there / "a.avro", ns=(0, first.looks[0].mtime_ns))  # who looks at sizes and times alone sees nothing
    (there / "b" / "README").unlink()
    changed = found_again(tmp_path, first.manifest, numbers).changed
    assert set(changed) == {0, 4}
    assert "a.avro changed after its manifest was frozen" in changed[0]
    assert "No such file" in changed[4]


def test_a_file_that_is_still_being_written_is_not_frozen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.avro"
    path.write_bytes(ztf(0, 3))

    def written_to(*arguments: object) -> str:
        path.write_bytes(ztf(0, 4))
        return ""

    monkeypatch.setattr(freezing, "_sha256", written_to)
    with pytest.raises(TroubleError, match="still being written"):
        archive(path)


def test_shards_are_divided_by_their_messages() -> None:
    ends = {0: 100, 1: 10, 2: 40, 3: 50, 4: 7, 5: 0}
    assert shares(ends, dict.fromkeys(ends, 0), 2) == [[0, 4], [1, 2, 3]]
    assert shares(ends, ends, 4) == []
    assert shares(ends, ends | {1: 3, 4: 0}, 4) == [[1], [4]]
    assert sorted(p for share in shares(ends, dict.fromkeys(ends, 0), 3) for p in share) == [0, 1, 2, 3, 4]


def test_an_empty_container_is_a_file_without_messages(tmp_path: Path) -> None:
    (tmp_path / "empty.avro").write_bytes(ztf(0, 0))
    assert messages(tmp_path / "empty.avro") == []
    assert archive(tmp_path / "empty.avro").manifest.messages == 0
