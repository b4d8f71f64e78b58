"""A catalogue in an S3-compatible object store: the heart of the ledger's tests again, and care for its tables.

The store is moto's, which honours If-None-Match; no real one was tried.
"""

import http.server
import json
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from deltalake import DeltaTable

from schemas.errors import UserError
from schemas.surveys.native import avro_schema
from streamer import dead_letters
from streamer.broker.server import Broker
from streamer.care.compaction import Settings, compact
from streamer.care.files import verify_files
from streamer.care.history import history
from streamer.care.nights import nights
from streamer.care.vacuum import vacuum
from streamer.care.withdraw import withdraw
from streamer.catalogue import open_catalogue
from streamer.replay.bounds import Asked
from streamer.settings import run_settings
from streamer.sink.catalogue import ensure
from streamer.sink.delta import DeltaSink
from streamer.sink.store import is_local, place, use_options
from streamer.sink.store_path import StorePath
from streamer.sink.verify import verify
from tests import test_backfill as filling
from tests import test_ledger as ledger
from tests import test_replay as replaying
from tests import test_retry as retrying
from tests.fault_points import Killed, die, once
from tests.made_rows import IDENTITY, advance, no_first, now_ms, stored
from tests.object_store import bucket, options, server, use
from tests.streaming import alerts, assert_once, engine, identities, send, spread
from tests.test_cli_catalog import run

honest = ledger.assert_story
NIGHT, MODEL = "2026-05-01", "forest-lsst-01234567"
FAR = 120  # offsets, beyond where 18 deaths in a row come


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with server() as where:
        yield where


@pytest.fixture
def root(address: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    use(address, monkeypatch)
    monkeypatch.setattr(ledger, "END", 24)  # a shorter story: each commit asks the store a dozen times
    monkeypatch.setattr(ledger, "assert_story", lambda root, end=24: honest(root, end))
    made = bucket(address)
    ensure(made)
    return made


def test_a_path_of_a_store_is_as_a_path(root: Path) -> None:
    here = root / "folder" / "a.txt"
    assert not here.exists()
    with pytest.raises(FileNotFoundError):
        here.read_text()
    with pytest.raises(FileNotFoundError):
        here.stat()
    with here.open("wb") as file:
        file.write(b"one\ntwo\n")
    with pytest.raises(RuntimeError), (root / "folder" / "b.txt").open("wb") as file:  # noqa: PT012
        file.write(b"not all")
        raise RuntimeError
    assert here.read_text() == "one\ntwo\n"
    assert list(here.open(encoding="utf-8")) == ["one\n", "two\n"]
    with here.open("rb") as file:
        file.seek(4)
        assert bytes(file.read(3)) == b"two"
    assert here.stat().st_size == 8
    assert here.is_file()
    assert (root / "folder").is_dir()
    assert not (root / "fold").is_dir()
    assert list((root / "folder").iterdir()) == [here]
    assert [path.name for path in root.glob("fold*/*.txt")] == ["a.txt"]
    assert [path.relative_to(root).as_posix() for path in root.rglob("a*")] == ["folder/a.txt"]
    here.unlink()
    assert not here.exists()
    assert str(here.parent) == f"{root}/folder"


def test_places_are_told_apart(tmp_path: Path) -> None:
    assert place(tmp_path) == tmp_path
    assert is_local(place(tmp_path))
    for text in ("s3://bucket/a/b", Path("s3://bucket/a/b"), place("s3://bucket/a/b")):
        found = place(text)
        assert isinstance(found, StorePath)
        assert str(found) == "s3://bucket/a/b"
        assert str(found / "rows") == "s3://bucket/a/b/rows"
        assert not is_local(found)
    with pytest.raises(UserError, match="s3://BUCKET/PATH"):
        place("s3://bucket")
    given = run_settings(brokers="b", topic="t", model=tmp_path, catalog="s3://bucket/a/b")
    assert str(given.catalog) == "s3://bucket/a/b"
    with pytest.raises(UserError, match="begin with aws_"):
        use_options({"endpoint": "http://x"})


def test_killed_at_every_step(root: Path) -> None:
    """A death at each step of the protocol, one after the other: the heir of each goes on, and dies at the next step."""
    for step in range(1, 19):
        doomed = ledger.sink_of(root, once(step, die))
        with pytest.raises(Killed):
            advance(doomed, FAR, 4, doomed.claim(ledger.PARTITIONS, no_first))
    heir = ledger.sink_of(root)
    durable = heir.claim(ledger.PARTITIONS, no_first)
    assert min(durable.values()) > 0  # who died late had committed
    advance(heir, FAR, FAR, durable)
    honest(root, FAR)


def test_zombie_wakes(root: Path) -> None:
    """A worker sleeps at a step of a commit while another claims and commits; when it wakes it may add nothing."""
    due, slept = 0, list[int]()

    def point(step: int) -> None:
        if step == due and step not in slept:
            slept.append(step)
            advance(heir, 8 * len(slept), 8, heir.claim(ledger.PARTITIONS, no_first))

    zombie, heir = ledger.sink_of(root, point), ledger.sink_of(root)
    for due in (9, 12, 16, 17):
        at = zombie.claim(ledger.PARTITIONS, no_first)
        zombie.write(*ledger.batch(at, {p: o + 6 for p, o in at.items()}))
        zombie.commit()
        assert slept[-1] == due
    honest(root, 8 * len(slept))


@pytest.mark.parametrize("step", [2, 4])
def test_claims_cross(root: Path, step: int) -> None:
    ledger.test_claims_that_cross(root, step)


def test_a_weakened_protocol_is_caught_here_too(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger.test_a_weakened_protocol_is_caught(root, "no comparison", 16, monkeypatch)


def test_care_for_tables_in_a_store(root: Path) -> None:
    def dies(step: int) -> None:
        if step == 16:
            raise Killed

    doomed = ledger.sink_of(root, dies)
    with pytest.raises(Killed):
        advance(doomed, 24, 8, doomed.claim([0, 1], no_first))
    sink = ledger.sink_of(root)
    advance(sink, 24, 8, sink.claim([0, 1], no_first))
    before = stored(root)
    done = compact(root, NIGHT, MODEL, Settings(file_rows=20, memory=1))
    assert done is not None
    assert (done.files_before, done.files) == (3, 2)
    assert stored(root) == before
    assert [one.compacted for one in nights(root) if one.night == NIGHT] == [True]
    assert history(root, 1, "rows")[0].what == "compact"
    assert verify_files(root, checksums=True).ok
    assert len(open_catalogue(root).find("0-3-0")) == sum((p, o, r) == (0, 3, 0) for p, o, r in before[0])
    swept = {one.table: one for one in vacuum(root, keep_hours=0)}["rows"]
    assert len(swept.replaced) == 3
    assert len(swept.staged) == 3
    assert verify_files(root).ok
    assert verify(root).ok
    gone = StorePath(*StorePath(DeltaTable(str(root / "rows")).file_uris()[0]).parts)
    gone.unlink()
    (line,) = verify_files(root).wrong
    assert gone.name in line
    assert "cannot be opened" in line


def test_the_command_takes_options_of_the_store(root: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = ledger.sink_of(root)
    advance(sink, 8, 8, sink.claim([0], no_first))
    for key in options(address):
        monkeypatch.delenv(key.upper())
    told = [word for key, value in options(address).items() for word in ("--storage", f"{key}={value}")]
    result = run(*told, "catalog", "info", root)
    assert result.exit_code == 0, result.output
    assert MODEL in result.output
    assert run(*told, "catalog", "verify", root).exit_code == 0
    assert "is not a catalogue" in str(run(*told, "catalog", "info", f"{root}x").exception)


@pytest.mark.broker
def test_from_kafka_to_a_store(broker: Broker, topic: Callable[..., str], root: Path) -> None:
    name = topic(2)
    _, payloads = alerts(60)
    send(broker.bootstrap, name, spread(payloads, 2))
    assert engine(broker.bootstrap, name, root, commit_rows=20).run().rows == 60
    assert_once(root, identities({0: 30, 1: 30}))
    what = Asked(offsets=("0:0-29", "1:0-29"))
    with pytest.raises(Killed):
        replaying.asked(broker, name, root, what, commit_rows=20, point=once(16, die)).run()
    done = replaying.replay(broker, name, root, what)
    assert done.whole
    assert replaying.replay(broker, name, root, what).progress.rows == 0
    assert [len(set(found)) for found in replaying.places(root).values()] == [60, 60]
    assert len(stored(root)[0]) == 120
    assert verify(root).ok, verify(root).lines()


def test_dead_letters_are_tried_again_in_a_store(root: Path, tmp_path: Path) -> None:
    """Killed before its rows land, and run again: every mended letter has its row, once."""
    schema = tmp_path / "schema.avsc"
    schema.write_text(json.dumps(avro_schema("lsst")))
    _, good = alerts(4)
    retrying.live(root, [good[0], retrying.UNKNOWN + good[1][5:], b"garbage", retrying.UNKNOWN + good[3][5:]])
    given = {"schema_file": [f"7={schema}"]}
    with pytest.raises(Killed):
        retrying.again(root, once(16, die), **given)
    assert retrying.again(root, **given).answered == 2
    assert retrying.again(root, **given).letters == 1
    assert_once(root, {(0, o, 0) for o in (0, 1, 3)}, {(0, o, -1) for o in (1, 2, 3)})


def test_files_at_rest_into_a_store(root: Path, tmp_path: Path) -> None:
    """Archived packets of every form, and what is none of them; a second run adds nothing."""
    there = filling.night(tmp_path / "night")
    assert filling.fill(root, there).progress.rows == 99
    filling.assert_all_there(root)
    before = filling.versions(root)
    assert filling.fill(root, there).progress.messages == 0
    assert filling.versions(root) == before


def test_withdrawing_from_a_store(root: Path) -> None:
    sink = DeltaSink(root, IDENTITY, now_ms)
    advance(sink, 12, 12, sink.claim([0], no_first))
    before = stored(root)
    letters = dead_letters.letters(open_catalogue(root))
    assert set(letters["state"].to_pylist()) >= {dead_letters.OPEN}
    done = withdraw(root, NIGHT, MODEL, "wrong", "test", now_ms)
    assert done.rows == len([row for row in before[0] if row[1] % 3 == 0])
    assert len(stored(root)[0]) == len(before[0]) - done.rows
    assert verify(root).ok, verify(root).lines()


class Blind(http.server.BaseHTTPRequestHandler):
    """A store that writes whatever it is told to, condition or not."""

    def _answer(self) -> None:
        asked = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        keys = b"".join(re.findall(rb"<Key>.*?</Key>", asked))  # of what is to be deleted
        body = b"<DeleteResult><Deleted>" + keys + b"</Deleted></DeleteResult>" if keys else b""
        self.send_response(200)
        self.send_header("ETag", '"0"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_PUT = do_DELETE = do_GET = do_HEAD = do_POST = _answer

    def log_message(self, *_: object) -> None:
        pass


def test_a_store_that_ignores_the_condition_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CONDITIONAL_PUT", "disabled")
    with pytest.raises(UserError, match="must be etag"):
        ensure(place("s3://bucket/catalogue"))
    blind = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Blind)
    threading.Thread(target=blind.serve_forever, daemon=True).start()
    try:
        use(f"http://127.0.0.1:{blind.server_port}", monkeypatch)
        with pytest.raises(UserError, match="ignores If-None-Match"):
            ensure(place("s3://bucket/catalogue"))
    finally:
        blind.shutdown()
        blind.server_close()
