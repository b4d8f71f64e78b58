"""Dead letters: which are open, which fit, and what an export holds of them."""

import datetime as dt
import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest

from schemas.batch import Reason, Refusals
from schemas.catalogue import EXCEPTIONS, PAYLOAD_BOUND, REST
from schemas.errors import UserError
from streamer import dead_letters, letter_files
from streamer.catalogue import open_catalogue
from streamer.sink.account import exceptions_of
from streamer.sink.settled import Settled
from tests.catalogue_builder import CLUSTER, EPOCH, MODELS_HERE, TOPIC, TOPIC_ID, append, build
from tests.made_rows import IDENTITY, batch, rows_of
from tests.test_cli_catalog import run, said

NOW = 1_780_000_000_000
OTHER = IDENTITY._replace(processing_id=MODELS_HERE[1][1], topic_id=TOPIC_ID)  # not the one that refused


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    return build(tmp_path / "catalogue", rows_a_night=20).path


def entries(catalog: Path, listed: list[tuple[int, int, str, bytes | None]], processing_id: str) -> None:
    """Append (offset, row, reason, payload) to the exceptions ledger, in partition 0."""
    rows = []
    for k, (offset, row, reason, payload) in enumerate(listed):
        values = [processing_id, CLUSTER, TOPIC, TOPIC_ID, 0, offset, offset + 1, row, reason, "why", -1, payload]
        values += [len(payload or b""), None, EPOCH + dt.timedelta(days=1, seconds=k), "test"]
        rows.append(dict(zip(EXCEPTIONS.names, values, strict=True)))
    append(catalog / "exceptions", pa.Table.from_pylist(rows, EXCEPTIONS))


def states(catalog: Path) -> dict[int, str]:
    table = dead_letters.letters(open_catalogue(catalog))
    return dict(zip(table["number"].to_pylist(), table["state"].to_pylist(), strict=True))


def test_a_letter_is_open_until_a_row_has_its_identity(catalog: Path) -> None:
    """Numbers 2 to 4 are messages 602 and 603 and row 3 of message 604; 1 and 5 are a tombstone and a gap."""
    assert states(catalog) == {1: "", 2: "open", 3: "open", 4: "open", 5: ""}
    strangers = [
        rows_of([(1, 602, 0), (0, 604, 2)], identity=OTHER),  # another partition, another row
        rows_of([(0, 602, 0), (0, 604, 3)], identity=OTHER._replace(topic_id="of another topic")),
    ]
    append(catalog / "rows", pa.concat_tables(strangers))
    assert set(states(catalog).values()) == {"", "open"}
    append(catalog / "rows", rows_of([(0, 602, 7), (0, 604, 3)], identity=OTHER))
    assert states(catalog) == {1: "", 2: "closed", 3: "open", 4: "closed", 5: ""}


def test_states_against_sets(catalog: Path) -> None:
    rng = np.random.default_rng(3)
    listed = sorted(
        {(int(o), int(r)) for o, r in zip(rng.integers(1000, 1200, 150), rng.integers(-1, 3, 150), strict=True)}
    )
    rows = sorted(
        {(0, int(o), int(r)) for o, r in zip(rng.integers(1000, 1200, 150), rng.integers(0, 3, 150), strict=True)}
    )
    entries(catalog, [(o, r, "CORRUPT", None) for o, r in listed], MODELS_HERE[0][1])
    append(catalog / "rows", rows_of(rows, nights=3, identity=OTHER))
    table = dead_letters.letters(open_catalogue(catalog)).to_pylist()
    found = {(e["offset_start"], e["kafka_row"]): e["state"] for e in table if e["offset_start"] >= 1000}
    messages, identities = {o for _, o, _ in rows}, {(o, r) for _, o, r in rows}
    answered = {(o, r): o in messages if r == REST else (o, r) in identities for o, r in listed}
    assert found == {key: "closed" if yes else "open" for key, yes in answered.items()}
    assert len(set(found.values())) == 2


def test_letters_are_chosen_by_what_is_said(catalog: Path) -> None:
    table = dead_letters.letters(open_catalogue(catalog))

    def numbers(**given: object) -> list[int]:
        return dead_letters.chosen(table, **given)["number"].to_pylist()  # type: ignore[arg-type]

    assert numbers(reason="CORRUPT") == [2]
    assert numbers(state="open") == [2, 3, 4]
    assert numbers(since=EPOCH + dt.timedelta(seconds=603)) == [3, 4, 5]
    assert numbers(night="2026-02-28") == [1, 2, 3, 4, 5]  # 3 h UTC is before noon: Rubin's night of the day before
    assert numbers(night="2026-03-01") == []
    with pytest.raises(UserError, match="no reason BROKEN: there are EMPTY"):
        numbers(reason="BROKEN")


def test_the_command_lists_open_and_closed(catalog: Path) -> None:
    append(catalog / "rows", rows_of([(0, 602, 0)], identity=OTHER))
    text = said("dead-letters", "list", catalog)
    assert re.findall(r"0:60\d .* (open|closed) ", text) == ["closed", "open", "open"]
    assert "0:603" not in said("dead-letters", "list", catalog, "--closed")
    assert "0:602" not in said("dead-letters", "list", catalog, "--open", "--since", "2026-03-01")
    assert "No dead letter fits: there are 5." in said("dead-letters", "list", catalog, "--since", "2031-01-01")
    assert "closed: a row of its identity" in said("dead-letters", "show", catalog, 2)
    assert "2,000,000 bytes, cut: the first 40 are kept" in said("dead-letters", "show", catalog, 4)
    assert "--since soon is no time" in str(run("dead-letters", "list", catalog, "--since", "soon").exception)
    assert "fit nothing" in str(run("dead-letters", "list", catalog, "--open", "--closed").exception)


def test_a_directory_of_messages_and_its_manifest(catalog: Path, tmp_path: Path) -> None:
    three = bytes(range(256)) * 3
    entries(catalog, [(900, 1, "BAD_POSITION", three), (900, 2, "BAD_POSITION", None)], MODELS_HERE[0][1])
    out = tmp_path / "letters"
    text = said("dead-letters", "export", catalog, out).replace("\n", "")
    assert "7 dead letters, 4 messages" in text
    assert "Of 1 messages the ledger keeps only the first MiB" in text
    told = json.loads((out / "manifest.json").read_text())["letters"]
    assert [t["number"] for t in told] == [1, 2, 3, 4, 5, 6, 7]
    assert [t["file"] for t in told] == [
        None,
        "2-CORRUPT-p0-o602.bin",
        "3-UNKNOWN_SCHEMA-p0-o603.bin",
        "4-BAD_POSITION-p0-o604.bin",
        None,
        *["6-BAD_POSITION-p0-o900.bin"] * 2,
    ]
    assert sorted(p.name for p in out.iterdir()) == sorted({t["file"] for t in told if t["file"]} | {"manifest.json"})
    assert (out / "6-BAD_POSITION-p0-o900.bin").read_bytes() == three
    for t in told:
        if t["file"]:
            stored = (out / t["file"]).read_bytes()
            assert (t["bytes"], t["sha256"]) == (len(stored), hashlib.sha256(stored).hexdigest())
    assert [t["number"] for t in told if t["cut"]] == [4]
    assert "exists already" in str(run("dead-letters", "export", catalog, out).exception)


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_one_table_of_letters(catalog: Path, tmp_path: Path, suffix: str) -> None:
    many = [(2000 + k, REST, "CORRUPT", b"%d" % k) for k in range(150)]
    entries(catalog, [*many, (2500, 0, "BAD_POSITION", b"x"), (2500, 1, "BAD_POSITION", None)], MODELS_HERE[0][1])
    catalogue = open_catalogue(catalog)
    table = dead_letters.letters(catalogue)
    out = tmp_path / f"letters{suffix}"
    done = letter_files.export(catalogue, table.filter(pa.compute.greater(table["number"], 5)), out, NOW)
    assert done[:3] == (152, 151, 0)
    if suffix == ".parquet":
        read = pq.read_table(out)
    else:
        with pyarrow.ipc.open_file(out) as file:
            read = file.read_all()
    read = read.sort_by("number")
    assert read["number"].to_pylist() == list(range(6, 158))
    assert read["payload"].to_pylist() == [p for _, _, _, p in many] + [b"x", None]
    assert [p.name for p in tmp_path.iterdir() if "part" in p.name] == []


def test_an_export_that_cannot_be_leaves_nothing(catalog: Path, tmp_path: Path) -> None:
    catalogue = open_catalogue(catalog)
    table = dead_letters.letters(catalogue)
    with pytest.raises(UserError, match="nothing to export"):
        letter_files.export(catalogue, table.slice(0, 0), tmp_path / "x", NOW)
    with pytest.raises(UserError, match="no directory"):
        letter_files.export(catalogue, table, tmp_path / "nowhere" / "x", NOW)
    assert [p.name for p in tmp_path.iterdir()] == ["catalogue"]


def test_a_message_is_kept_once_and_up_to_the_bound() -> None:
    """Ten thousand bad rows of one large message must not list it ten thousand times."""
    messages, output = batch({0: 0}, {0: 40})
    messages = messages._replace(payloads=[b"y" * (PAYLOAD_BOUND + 5)] * len(messages.payloads))
    which = np.repeat(np.arange(2), 3)
    refusals = Refusals(
        which, np.tile(np.arange(3, dtype=np.int32), 2), np.full(6, Reason.BAD_POSITION, np.uint8), ["why"] * 6, which
    )
    _, listed = exceptions_of(0, 0, messages, output._replace(refusals=refusals), Settled())
    held = [e for e in listed if e.reason == "BAD_POSITION"]
    assert [len(e.payload) if e.payload is not None else None for e in held] == [PAYLOAD_BOUND, None, None] * 2
    assert {e.payload_size for e in held} == {PAYLOAD_BOUND + 5}
