"""A night in which everything goes wrong, at random and by a seed: is every message there once?

Live traffic of every form flows through workers while faults strike processes, broker, disk, clock and registry. In the end
all of it drains, the tables prove themselves, and what they hold is compared with what was produced.
"""

import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]
from confluent_kafka.cimpl import NewTopic
from deltalake import DeltaTable
from rich.console import Console
from rich.live import Live
from rich.text import Text

from benchmarks.report import Result
from benchmarks.soak_crew import Crew, Hand
from benchmarks.soak_faults import FAULTS, Stage
from benchmarks.soak_feed import Feed, Witness
from benchmarks.soak_judge import Verdict, judge, produced
from benchmarks.soak_messages import SURVEY, Forms
from models import bundle as bundles
from models import training
from schemas.bands import band_set
from schemas.night import mjd_of, rollover
from streamer.broker.server import Broker
from streamer.broker.settings import SHORT_SESSIONS, BrokerSettings
from streamer.care.files import verify_files
from streamer.run import now_ms
from streamer.sink.appids import AppIds, read_app_ids
from streamer.sink.verify import verify
from streamer.source.connection import COMMITTED
from tests.registries import StandIn
from tests.small_sky import sky

MINUTES = 10.0
RATE = 500.0  # messages a second
PARTITIONS = 3
EVERY = 4.0  # seconds between two faults, on average
DRAIN_SECONDS = 300.0
TOPIC = "alerts"
# A minute-long test may have a broker that fences itself after a second without its own heartbeat; in an hour on a full
# machine that happens by itself, and the soak means to choose its faults.
KAFKA = {**SHORT_SESSIONS, "broker.session.timeout.ms": 4000, "broker.heartbeat.interval.ms": 500}
CLIENT = {"session.timeout.ms": "3000", "heartbeat.interval.ms": "500", "topic.metadata.refresh.interval.ms": "500"}


def run(
    quick: bool,
    minutes: float | None = None,
    seed: int = 1,
    rate: float = RATE,
    faults: list[str] | None = None,
    keep: Path | None = None,
) -> list[Result]:
    """Soak for `minutes`; Ctrl-C ends it early, and it is judged all the same.

    Parameters
    ----------
    quick
        One minute, where `minutes` does not say.
    minutes
        Of faults; draining and judging come on top.
    seed
        Of the schedule of faults and of the messages. Processes take their own time, so no two soaks are alike.
    rate
        Messages a second.
    faults
        Which; all by default.
    keep
        Where to leave catalogue and logs; by default they are deleted where nothing is wrong.
    """
    seconds = 60.0 * (minutes or (1.0 if quick else MINUTES))
    console = Console(stderr=True)
    with ExitStack() as stack:
        root = keep or Path(tempfile.mkdtemp(prefix="slipher-soak-"))
        root.mkdir(parents=True, exist_ok=True)
        stage, soak = _prepare(stack, root, seed, rate, console)
        with _interruptible() as told:
            lasted = _storm(stage, soak, seconds, faults or sorted(FAULTS), told, console)
        console.print("calm: all that was sent is to become durable")
        results = soak.judge(stage, seed, lasted, console)
    if not failed(results) and keep is None:
        import shutil

        shutil.rmtree(root, ignore_errors=True)
    else:
        console.print(f"catalogue and logs are in {root}")
    return results


def failed(results: list[Result]) -> bool:
    """Whether anything was wrong."""
    wrong = ("lost", "doubled", "proofs failed", "processes that ended wrongly")
    return any(r.ours != 0 for r in results if r.case in wrong)


class Soak:
    """Where it happens, and what is known of it from the tables."""

    def __init__(self, root: Path, broker: Broker, forms: Forms, registry: StandIn) -> None:
        self.root, self.broker, self.forms, self.registry = root, broker, forms, registry
        self.admin = AdminClient({"bootstrap.servers": broker.bootstrap, "log_level": 0})
        self.ends: dict[int, int] = {}
        self._ids: AppIds | None = None  # advanced once a second: opening a table of many files anew takes long
        self.begun = datetime.now(UTC).isoformat()

    @property
    def catalog(self) -> Path:
        """The catalogue."""
        return self.root / "catalog"

    def worker(self) -> list[str]:
        """The command of a live worker."""
        words = ["run", "--topic", TOPIC, "--start", "earliest", "--commit-seconds", "1", *self.schemas()]
        words += ["--brokers", self.broker.bootstrap, "--catalog", str(self.catalog)]
        words += ["--model", str(self.root / "a.slipher")]
        return [*words, *(w for key, value in CLIENT.items() for w in ("--kafka", f"{key}={value}"))]

    def schemas(self) -> list[str]:
        """Options that say where the schemas are."""
        return ["--registry", self.registry.url, "--registry-setting", "timeout=2"]

    def replay(self) -> list[str]:
        """The command that runs another model over what was sent, less its bounds."""
        words = ["replay", str(self.catalog), "--topic", TOPIC, "--brokers", self.broker.bootstrap, "--quiet"]
        return [*words, "--model", str(self.root / "b.slipher"), *self.schemas()]

    def beside(self) -> dict[str, list[str]]:
        """Commands that run beside the workers."""
        catalog = str(self.catalog)
        return {
            "replay": [*self.replay(), "--from", self.begun],
            "compact": ["catalog", "compact", catalog],
            "vacuum": ["catalog", "vacuum", catalog],
            "migrate": ["catalog", "migrate", catalog],
            "verify": ["catalog", "verify", catalog],
            "retry": ["dead-letters", "retry", catalog, "--model", str(self.root / "a.slipher"), *self.schemas()],
        }

    def durable(self) -> dict[int, int]:
        """Position of each partition that was claimed; of the live processing, which is the only one with a start."""
        folder = self.catalog / "rows"
        if self._ids is None:
            if not any((folder / "_delta_log").glob("*.json")):
                return {}
            self._ids = AppIds(DeltaTable(str(folder)), folder)
        self._ids.refresh()
        ids, found = self._ids.versions, dict[int, int]()
        for name in ("/start", "/offset"):
            found |= {int(app.split("/")[3]): at for app, at in ids.items() if app.endswith(name)}
        return found

    def processing_id(self) -> str:
        """Of the live workers."""
        ids = {app.split("/")[1] for app in read_app_ids(self.catalog / "rows") if app.endswith("/start")}
        assert len(ids) == 1
        return ids.pop()

    def log_ends(self, partitions: int) -> tuple[dict[int, int], bool]:
        """One past the last offset that can be read, and whether nothing is beyond it (an open transaction, say)."""
        asked = {TopicPartition(TOPIC, p): OffsetSpec.latest() for p in range(partitions)}
        committed = self.admin.list_offsets(asked, isolation_level=COMMITTED, request_timeout=10)
        everything = self.admin.list_offsets(asked, request_timeout=10)
        ends = {where.partition: answer.result().offset for where, answer in committed.items()}
        return ends, ends == {where.partition: answer.result().offset for where, answer in everything.items()}

    def judge(self, stage: Stage, seed: int, seconds: float, console: Console) -> list[Result]:
        """Let it drain; compare the tables with what was produced."""
        stage.calm()
        outcome = stage.feed.stop()
        wrong = [*stage.failed, *stage.feed.failed]
        if not self._drained(stage):
            seen = stage.witness.positions
            wrong.append(
                f"within {DRAIN_SECONDS:.0f} s not all became durable, or was read by us: ends {self.ends}, durable "
                f"{stage.durable}, read {seen}; what is beyond is judged as if nobody had sent it"
            )
        stage.crew.end()
        wrong += self._replayed(stage)
        read = stage.witness.stop()
        wrong += [*stage.witness.failed, *produced(outcome, read)]
        report = verify(self.catalog)
        if not report.ok:
            wrong += report.lines()
        files = verify_files(self.catalog, checksums=True)
        if not files.ok:
            wrong += files.lines()
        live = self.processing_id()
        verdict = judge(self.catalog, live, read, self.forms.all, self.ends, stage.deleted)
        gone = [(p, 0, end) for p, _, end in stage.deleted]  # the replay comes later: what was durable has expired too
        for other in self._models() - {live}:
            verdict += judge(self.catalog, other, read, self.forms.all, self.ends, gone)
        for line in (*wrong, *stage.crew.faults, *verdict.lines):
            console.print(line, style="red", markup=False, soft_wrap=True)
        return _results(stage, verdict, len(wrong), sum(len(r.offset) for r in read.values()), seed, seconds)

    def _models(self) -> set[str]:
        table = DeltaTable(str(self.catalog / "models")).to_pyarrow_table(columns=["processing_id"])
        return set(table["processing_id"].to_pylist())

    def _replayed(self, stage: Stage) -> list[str]:
        """Have the second model run over everything, twice: the first run fills what others left, the second adds nothing."""
        bounds = [word for p, end in self.ends.items() if end for word in ("--offsets", f"{p}:0-{end - 1}")]
        held: list[int] = []
        for _ in range(2):
            hand = stage.crew.start("replay", [*self.replay(), *bounds])
            code = hand.process.wait(DRAIN_SECONDS)
            stage.crew.reap()
            if code:
                return [f"the last replay ended with {code}: {hand.log.read_text()[-1_000:]}"]
            held.append(DeltaTable(str(self.catalog / "rows")).to_pyarrow_dataset().count_rows())
        return [] if held[0] == held[1] else [f"a second replay of the same offsets added {held[1] - held[0]} rows"]

    def _drained(self, stage: Stage) -> bool:
        deadline = time.monotonic() + DRAIN_SECONDS
        while time.monotonic() < deadline:
            stage.tick()
            try:
                self.ends, settled = self.log_ends(stage.feed.partitions)
            except KafkaException:
                settled = False
            stage.durable = self.durable()
            if settled and stage.durable == self.ends and stage.witness.positions == self.ends:
                return True
            time.sleep(0.2)
        return False


def _prepare(stack: ExitStack, root: Path, seed: int, rate: float, console: Console) -> tuple[Stage, Soak]:
    console.print("starting Kafka, training two small models")
    broker = stack.enter_context(Broker(BrokerSettings(properties=KAFKA), root / "kafka"))  # restarted on its data
    registry = stack.enter_context(StandIn().running())
    known, z = sky(800)
    settings = training.ForestSettings(trees=8, folds=2, copies=1)
    made = training.fit(known.flux, known.flux_err, known.band_state, known.ebv, z, band_set(SURVEY), settings)
    bundles.write(made, root / "a.slipher")
    alpha: Any = made.card["alpha"]
    bundles.write(bundles.seal({**made.card, "alpha": alpha + 0.25}, made.tensors), root / "b.slipher")
    forms = Forms(float(mjd_of(now_ms(), rollover(SURVEY).scale)), np.random.default_rng([seed, 0]))
    soak = Soak(root, broker, forms, registry)
    soak.admin.create_topics([NewTopic(TOPIC, PARTITIONS, 1)])[TOPIC].result(30)
    control, logs = root / "control", root / "logs"
    for folder in (control, logs):
        folder.mkdir(exist_ok=True)
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
    crew = Crew(logs, control, {"SLIPHER_CACHE": str(root / "cache"), **threads})
    stack.callback(crew.kill)
    feed = Feed(broker.bootstrap, TOPIC, PARTITIONS, forms, rate, seed)
    witness = Witness(broker.bootstrap, TOPIC, PARTITIONS)
    rng = np.random.default_rng([seed, 3])

    def start_worker() -> Hand:
        return crew.start("worker", soak.worker())

    stage = Stage(broker, crew, feed, witness, registry, control, rng, start_worker, soak.beside())
    return stage, soak


def _storm(
    stage: Stage, soak: Soak, seconds: float, faults: list[str], told: Callable[[], bool], console: Console
) -> float:
    """Traffic and faults until the time is up, or until somebody says so, or a process ended as none may; returns seconds."""
    stage.feed.start()
    stage.witness.start()
    begun = time.monotonic()
    due, looked = begun + 2 * EVERY, 0.0
    with Live(console=console, refresh_per_second=4, transient=True) as live:
        while (now := time.monotonic()) < begun + seconds and not told():
            stage.tick()
            if now >= looked + 1:
                stage.durable, looked = soak.durable(), now
                live.update(_line(stage, seconds - (now - begun)))
            if now >= due:
                stage.strike(faults)
                due = time.monotonic() + float(stage.rng.exponential(EVERY))
            if stage.crew.faults or stage.failed:
                console.print("something ended as it may not; the storm is called off")
                break
            time.sleep(0.05)
    return time.monotonic() - begun


def _line(stage: Stage, left: float) -> Text:
    lag = sum(stage.witness.positions.values()) - sum(stage.durable.values())
    alive = stage.crew.of("worker")
    asleep = sum(h.asleep for h in alive)
    minutes, seconds = divmod(max(0, round(left)), 60)
    return Text(
        f"{minutes}:{seconds:02d} left · {sum(stage.survived.values())} faults, last: {stage.last or 'none'} · "
        f"{stage.feed.sent:,} sent · {max(0, lag):,} not durable · {len(alive)} workers, {asleep} asleep · Kafka {stage.kafka}"
    )


def _results(stage: Stage, verdict: Verdict, wrong: int, messages: int, seed: int, seconds: float) -> list[Result]:
    told = [
        ("minutes", round(seconds / 60, 1), ""),
        ("seed", seed, ""),
        ("messages that can be read", messages, ""),
        ("rows", verdict.rows, ""),
        ("entries of the exceptions ledger", verdict.exceptions, ""),
        ("faults survived", sum(stage.survived.values()), ""),
        *((f"  {name}", count, "") for name, count in sorted(stage.survived.items(), key=lambda item: -item[1])),
        *((f"  {name}", count, "processes") for name, count in sorted(stage.crew.ends.items())),
        ("lost", verdict.lost, ""),
        ("doubled", verdict.doubled, ""),
        ("proofs failed", wrong, ""),
        ("processes that ended wrongly", len(stage.crew.faults), ""),
        ("messages that the soak's own producers gave up", stage.feed.given_up, ""),
    ]
    return [Result(name, float(value), unit) for name, value, unit in told]


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Ctrl-C or SIGTERM end the storm, not the judgement."""
    told: list[int] = []

    def take(number: int, frame: object) -> None:
        if told:
            os._exit(130)  # children die with us
        told.append(number)

    before = {number: signal.signal(number, take) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(told)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
