"""The doctor: all well, and each thing that may be broken, on a real Kafka that asks for passwords (SCRAM)."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import (
    AdminClient,
    NewTopic,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from streamer.broker.server import Broker
from streamer.broker.settings import BrokerSettings, free_ports
from streamer.doctor import kafka, machine, world
from streamer.doctor.examination import examined
from streamer.doctor.finding import Check, Finding, State, examine, ok
from streamer.sink.catalogue import ensure
from streamer.sink.verify import verify
from tests.streaming import send, small_model
from tests.test_configuration import HOUSE, slipher

TOPIC = "alerts"
SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule required;"


@pytest.fixture(scope="module")
def guarded() -> Iterator[tuple[str, dict[str, str]]]:
    """A broker that lets in who knows a password, a topic on it, and the settings of one who does."""
    plain, controller, sasl = free_ports(3)
    properties = {
        "listeners": f"PLAINTEXT://127.0.0.1:{plain},CONTROLLER://127.0.0.1:{controller},SASL://127.0.0.1:{sasl}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{plain},SASL://127.0.0.1:{sasl}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL:SASL_PLAINTEXT",
        "sasl.enabled.mechanisms": "SCRAM-SHA-256",
        "listener.name.sasl.scram-sha-256.sasl.jaas.config": SCRAM,
    }
    with Broker(BrokerSettings(port=plain, controller_port=controller, properties=properties)) as running:
        admin = AdminClient({"bootstrap.servers": running.bootstrap})
        known = UserScramCredentialUpsertion("anna", ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 4096), b"right")
        admin.alter_user_scram_credentials([known])["anna"].result(20)
        admin.create_topics([NewTopic(TOPIC, 2, 1)])[TOPIC].result(20)
        send(running.bootstrap, TOPIC, {0: [b"x", b"y"], 1: [b"z"]})
        yield (
            f"127.0.0.1:{sasl}",
            {
                "security.protocol": "SASL_PLAINTEXT",
                "sasl.mechanism": "SCRAM-SHA-256",
                "sasl.username": "anna",
                "sasl.password": "right",
            },
        )


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(kafka, "PATIENCE", 1.5)
    monkeypatch.chdir(tmp_path)
    for name in ("SLIPHER_CONFIG", "SLIPHER_BROKERS", "SLIPHER_CATALOG", "SLIPHER_MODEL", "SLIPHER_TOPIC"):
        monkeypatch.delenv(name, raising=False)


def lines(found: list[Finding]) -> dict[str, Finding]:
    return {finding.check: finding for finding in found}


def looked(brokers: str, known: dict[str, str], topic: str = TOPIC, **more: str) -> dict[str, Finding]:
    return lines(kafka.look({**known, **more, "bootstrap.servers": brokers}, topic, lambda: "group"))


def test_all_is_well(guarded: tuple[str, dict[str, str]], tmp_path: Path) -> None:
    brokers, known = guarded
    ensure(tmp_path / "catalogue")
    flags = {
        "brokers": brokers,
        "topic": TOPIC,
        "model": small_model(),
        "catalog": tmp_path / "catalogue",
        "kafka": known,
    }
    found = lines(examined(flags, 60))
    assert not [finding for finding in found.values() if finding.state is State.WRONG]
    for name in ("settings", "model", "broker", "credentials", "topic", "group", "clock", "processor", "open files"):
        assert found[name].state is State.OK, found[name]
    assert "SCRAM-SHA-256 as anna" in found["credentials"].text
    assert "alerts: 2 partitions, 3 offsets in the log, kept for ever" in found["topic"].text
    assert found["group"].text.startswith("slipher-forest-lsst-")
    assert "version 0" in found["table"].text
    assert "right" not in str(found)
    assert not list((tmp_path / "catalogue").glob(".probe*"))


def test_wrong_password(guarded: tuple[str, dict[str, str]]) -> None:
    brokers, known = guarded
    found = looked(brokers, known, **{"sasl.password": "wrong"})
    assert found["broker"].state is State.OK
    assert found["credentials"].state is State.WRONG
    assert "sasl.password.file" in found["credentials"].mend
    assert found["topic"].state is State.SKIPPED


def test_a_run_of_which_the_file_says_all(guarded: tuple[str, dict[str, str]], tmp_path: Path) -> None:
    """Two workers, the password from a file: no flag, no variable."""
    brokers, _ = guarded
    (tmp_path / "password").write_text("right\n")
    Path("slipher.toml").write_text(f"""
brokers = "{brokers}"
topic = "{TOPIC}"
model = "{small_model()}"
catalog = "catalogue"
start = "earliest"
workers = 2

[kafka]
security.protocol = "SASL_PLAINTEXT"
sasl.mechanism = "SCRAM-SHA-256"
sasl.username = "anna"
sasl.password.file = "{tmp_path}/password"

[refused]
limit = 1
""")
    environment = {**os.environ, "PYTHONPATH": str(HOUSE)}
    command = [sys.executable, "-m", "streamer", "run", "--until-end"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=100)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("messages are durable") == 2
    assert "right" not in done.stderr
    assert verify(tmp_path / "catalogue").offsets == 3


def test_no_broker_there() -> None:
    [port] = free_ports(1)
    found = looked(f"127.0.0.1:{port}", {})
    assert found["broker"].state is State.WRONG
    assert "Is it up" in found["broker"].mend
    assert found["clock"].state is State.SKIPPED


def test_settings_that_kafka_does_not_know(guarded: tuple[str, dict[str, str]]) -> None:
    brokers, known = guarded
    found = looked(brokers, known, **{"sesion.timeout.ms": "1"})
    assert found["broker"].state is State.WRONG
    assert 'No such configuration property: "sesion.timeout.ms"' in found["broker"].text


def test_topics(guarded: tuple[str, dict[str, str]]) -> None:
    brokers, known = guarded
    found = looked(brokers, known, "alrets")
    assert found["topic"].state is State.WRONG
    assert "Did you mean alerts?" in found["topic"].text
    assert found["broker"].state is State.OK
    assert "1 topics fit ^al: alerts" in looked(brokers, known, "^al")["topic"].text
    assert looked(brokers, known, "^no")["topic"].state is State.NOTE
    assert looked(brokers, known, "")["topic"].state is State.SKIPPED


def test_messages_of_the_future(guarded: tuple[str, dict[str, str]]) -> None:
    brokers, known = guarded
    connection = {**known, "bootstrap.servers": brokers}
    found = lines(kafka.look(connection, TOPIC, lambda: "group", lambda: time.time() - 3600))
    assert found["clock"].state is State.WRONG
    assert "3 offsets" in found["clock"].text


def test_a_short_retention_and_a_compacted_topic(guarded: tuple[str, dict[str, str]]) -> None:
    brokers, known = guarded
    admin = AdminClient({**known, "bootstrap.servers": brokers})
    short = NewTopic("short", 1, 1, config={"retention.ms": "3600000"})
    compacted = NewTopic("compacted", 1, 1, config={"cleanup.policy": "compact"})
    for answer in admin.create_topics([short, compacted]).values():
        answer.result(20)
    assert "kept for 1.0 h: workers that are down for longer lose" in looked(brokers, known, "short")["topic"].text
    assert "it is compacted" in looked(brokers, known, "compacted")["topic"].text


def test_what_is_broken_beside_kafka(tmp_path: Path) -> None:
    """No broker, a model that is none, a table that cannot be written, no registry: each has its line, and none hides another."""
    [port] = free_ports(1)
    broken = tmp_path / "broken.slipher"
    broken.write_bytes(b"garbage")
    file = tmp_path / "file"
    file.write_text("")
    flags = {
        "brokers": f"127.0.0.1:{port}",
        "topic": TOPIC,
        "model": broken,
        "catalog": file / "catalogue",
        "registry": f"http://127.0.0.1:{port}",
    }
    found = lines(examined(flags, 60))
    for name in ("broker", "model", "table", "registry"):
        assert found[name].state is State.WRONG, name
        assert found[name].mend or found[name].text.count(".") > 1, name
    code, said, _ = slipher("doctor", "--json", *(word for k, v in flags.items() for word in (f"--{k}", str(v))))
    assert code == 1
    assert {line["check"] for line in json.loads(said) if line["state"] == "wrong"} >= {
        "broker",
        "model",
        "table",
        "registry",
    }


@pytest.mark.skipif(
    not Path("/proc/version").exists(), reason="needs a place where even root may not write: Linux's /proc"
)
def test_a_place_that_is_read_only() -> None:
    found = lines(world.table(Path("/proc/catalogue")))
    assert found["table"].state is State.WRONG
    assert "/proc cannot be written" in found["table"].text
    assert "mend its permissions" in found["table"].mend


def test_alerts_of_other_bands_and_a_torn_log(tmp_path: Path) -> None:
    ensure(tmp_path / "catalogue")
    log = tmp_path / "catalogue" / "rows" / "_delta_log" / f"{1:020}.json"
    log.write_text('{"add": ')
    [port] = free_ports(1)
    flags = {"brokers": f"127.0.0.1:{port}", "model": small_model(), "alerts": "ztf", "catalog": tmp_path / "catalogue"}
    found = lines(examined(flags, 60))
    assert "was trained for lsst" in found["model"].text
    assert "is torn" in found["table"].text
    assert {found["model"].state, found["table"].state} == {State.WRONG}


def test_nothing_given_and_a_mistake_in_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamer.broker.resident.running", lambda: None)
    found = lines(examined({}, 60))
    assert found["broker"].state is State.WRONG
    assert [found[name].state for name in ("model", "table", "registry")] == [State.SKIPPED] * 3
    Path("slipher.toml").write_text("[comit]\nrows = 1\n")
    found = lines(examined({}, 60))
    assert found["settings"].state is State.WRONG
    assert "slipher.toml:2: there is no setting comit.rows. Did you mean commit.rows?" in found["settings"].text
    assert found["processor"].state is State.OK
    assert slipher("doctor").code == 1


def test_what_hangs_holds_nobody_up() -> None:
    for_ever = threading.Event()

    def hang() -> list[Finding]:
        for_ever.wait(60)
        return []

    def fail() -> list[Finding]:
        raise RuntimeError("no")

    def tell_and_hang() -> Iterator[Finding]:
        yield ok("d", "")
        told.set()
        for_ever.wait(60)

    def wait() -> list[Finding]:
        told.wait(60)
        return [ok("b", "")]

    told = threading.Event()
    begun = time.monotonic()
    found = examine([Check("a", hang), Check("b", wait), Check("c", fail), Check("d", tell_and_hang)], 1)
    for_ever.set()
    assert time.monotonic() - begun < 30
    states = [("a", State.WRONG), ("b", State.OK), ("c", State.WRONG), ("d", State.OK), ("d", State.WRONG)]
    assert [(f.check, f.state) for f in found] == states
    assert found[0].text == "no answer within 1 s"
    assert "what is left of it: no answer within 1 s" in found[4].text


def test_the_machine(tmp_path: Path) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text("processor: 0\nflags\t\t: sse avx2 avx512f\n")
    assert "AVX-512" in machine.processor(1, info).text
    info.write_text("flags: sse\n")
    assert machine.processor(1, info).state is State.NOTE
    assert machine.processor(10_000, info).state is State.NOTE
    limit, left = tmp_path / "max", tmp_path / "meminfo"
    left.write_text("MemAvailable:   8000000 kB\n")
    for text, workers, state in (("max", 1, State.OK), ("600000000", 1, State.NOTE), ("600000000", 2, State.WRONG)):
        limit.write_text(text)
        assert machine.memory(workers, (limit,), left).state is state
    assert machine.memory(1, (), tmp_path / "nothing").state is State.SKIPPED
    assert [machine.open_files(n).state for n in (64, 1024, -1)] == [State.WRONG, State.OK, State.OK]
    assert [machine.own_clock(n).state for n in (0, 5, -1)] == [State.OK, State.NOTE, State.SKIPPED]


def test_compiled_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    assert "none are compiled yet" in machine.kernels().text
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "walk.nbi").touch()
    assert "compiled ones are in" in machine.kernels().text
    monkeypatch.setenv("NUMBA_CACHE_DIR", "/proc/no/cache")
    monkeypatch.setattr("os.access", lambda path, mode: False)  # a test as root may write everywhere
    assert machine.kernels().state is State.NOTE
