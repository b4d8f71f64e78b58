"""Messages in Kafka to durable rows with 301-point PDFs: slipher beside the plain way, broker on the same cores.

Rates first, then what each stage costs beside the least that it could, what exactly once costs, and how long an alert takes to
become a durable row.
"""

import os
import shutil
import tempfile
import uuid
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from deltalake import DeltaTable
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import feed as feeds
from benchmarks import latency, limits, once, ours, plain
from benchmarks.crew import Race, race
from benchmarks.feed import Feed
from benchmarks.report import Result, middle
from schemas.catalogue import PdfForm
from schemas.surveys.native import avro_schema
from schemas.table_alerts import Form
from streamer.broker.server import Broker
from streamer.broker.settings import BrokerSettings
from streamer.sink.verify import verify

PEERS: dict[str, plain.Way] = {"plain": "plain", "careful, NumPy": "numpy", "careful, SciPy": "scipy"}
OURS = "slipher"
FORMS: tuple[Form, ...] = ("arrow", "avro")
COMMITS = (2.0, 5.0)  # seconds between two, of the latencies
STAGES = ("consume", "decode", "estimate", "rows", "parquet", "commit", "account", "all of the process")
# Some machines carry these to steer OpenBLAS, and they slow NumPy down: neither side is to run with them.
STEERED = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
# Members that come together share the partitions at once, as with Kafka's own default: a rebalance is not what we measure.
JOIN_MS = {"group.initial.rebalance.delay.ms": 3_000}


class Case(NamedTuple):
    """One way to run it."""

    form: Form
    pdf: PdfForm
    processes: int
    peers: tuple[str, ...]  # compact PDFs are no peer's, and one process tells only how we scale

    def __str__(self) -> str:
        compact = ", compact PDFs" if self.pdf == "compact" else ""
        return f"{self.form}{compact}, {self.processes} process{'es' if self.processes > 1 else ''}"


CASES = [
    *(Case(form, "plain", 2, tuple(PEERS)) for form in FORMS),
    *(Case(form, "compact", 2, ()) for form in FORMS),
    *(Case(form, "plain", 1, ()) for form in FORMS),
]

Races = dict[tuple[Case, str], list[Race]]  # (case, who) -> repeats


class Size(NamedTuple):
    """How much."""

    ours: dict[Form, int]  # rows
    peer: dict[Form, int]  # rates are compared: the peers read the beginning of each partition
    plain: int  # rows of the slowest
    repeats: int
    commits: int  # of the comparison with blind appends


FULL = Size({"arrow": 1_000_000, "avro": 1_000_000}, {"arrow": 400_000, "avro": 200_000}, 100_000, 3, 6)
QUICK = Size({"arrow": 100_000, "avro": 100_000}, {"arrow": 40_000, "avro": 20_000}, 20_000, 1, 2)


class Stage(NamedTuple):
    """Where it all happens; everything under `root` is removed in the end."""

    root: Path
    brokers: str

    @property
    def bundle(self) -> Path:
        """Our model."""
        return self.root / "dc2.slipher"

    @property
    def plain(self) -> Path:
        """The peer's model."""
        return self.root / "dc2.joblib"


def run(quick: bool) -> list[Result]:
    """All cases, ours and the peer's in turn."""
    size = QUICK if quick else FULL
    for name in STEERED:
        os.environ.pop(name, None)
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # one process a core: inherited by all of them
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with ExitStack() as stack:
        progress = stack.enter_context(Progress(*columns, console=console, transient=True))
        steps = 5 + len(FORMS) + len(COMMITS) + size.repeats * sum(1 + len(case.peers) for case in CASES)
        task = progress.add_task("starting Kafka", total=steps)

        def now(text: str) -> None:
            progress.update(task, advance=1, description=text)

        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slipher-benchmark-")))
        broker = stack.enter_context(Broker(BrokerSettings(properties=JOIN_MS)))
        stage = Stage(root, broker.bootstrap)
        now("training")
        feeds.train(stage.bundle, stage.plain, lambda what, _: progress.update(task, description=f"training: {what}"))
        now("drawing the night")
        drawn = feeds.night(max(size.ours.values()))
        topics: list[Feed] = []
        for form in FORMS:
            progress.update(task, description=f"publishing {form}")
            topics.append(feeds.feed(drawn, form, size.ours[form], broker.bootstrap))
            now(f"published {form}")
        del drawn
        races: Races = defaultdict(list)
        for repeat in range(size.repeats):
            for case in CASES:
                topic = next(topic for topic in topics if topic.form == case.form)
                for name in (OURS, *case.peers):
                    progress.update(task, description=f"{case}, {repeat + 1} of {size.repeats}: {name}")
                    if name == OURS:
                        found = _ours(stage, topic, case)
                    else:
                        rows = size.plain if name == "plain" else size.peer[topic.form]
                        found = _plain(stage, topic, case.processes, rows, PEERS[name])
                    races[case, name].append(found)
                    progress.advance(task)
                    console.print(f"{case}, {name}: {found.rate:,.0f} rows/s")
        for case, name in races:
            told = ", ".join(f"{stage} {middle(spent)[0]:.2f}" for stage, spent in _stages(races[case, name]))
            console.print(f"{case}, {name}, us of CPU per object: {told}", soft_wrap=True)
        results = [_compared(case, races) for case in CASES]
        results += [_peak(case, races) for case in CASES]
        now("limits")
        for case in CASES:
            if case.processes == max(c.processes for c in CASES):
                topic = next(topic for topic in topics if topic.form == case.form)
                least = limits.limits(stage.brokers, topic, stage.bundle, case.pdf == "compact")
                results += _by_stage(case, races[case, OURS], least)
        now("exactly once beside blind appends")
        avro = next(topic for topic in topics if topic.form == "avro")
        with tempfile.TemporaryDirectory(dir=root) as folder:
            messages = limits.fetch(stage.brokers, avro).messages
            output = ours.worker(_settings(stage, avro, Path(folder))).process(messages)
            results += once.run(Path(folder), messages, output, size.commits)
        for seconds in COMMITS:
            now(f"latency, a commit every {seconds:g} s")
            with tempfile.TemporaryDirectory(dir=root) as folder:
                results += latency.run(Path(folder), stage.brokers, stage.bundle, avro.warm_up, seconds, quick)
    return results


def _settings(stage: Stage, topic: Feed, catalog: Path, pdf: PdfForm = "plain") -> dict[str, Any]:
    return {
        "brokers": stage.brokers,
        "topic": topic.topic,
        "model": stage.bundle,
        "catalog": catalog,
        "group": catalog.name,
        "start": "earliest",
        "pdf": pdf,
    }


def _ours(stage: Stage, topic: Feed, case: Case) -> Race:
    catalog = stage.root / f"catalog-{uuid.uuid4().hex}"
    settings = _settings(stage, topic, catalog, case.pdf)
    try:
        found = race(ours.prepare, [(settings, topic.warm_up)] * case.processes)
        report = verify(catalog)
        if not report.ok or not report.rows == found.rows == topic.rows:
            raise RuntimeError(f"the catalogue is wrong, {topic.rows:,} rows expected: {' '.join(report.lines())}")
    finally:
        shutil.rmtree(catalog, ignore_errors=True)
    return found


def _plain(stage: Stage, topic: Feed, processes: int, rows: int, way: plain.Way) -> Race:
    table = stage.root / f"plain-{uuid.uuid4().hex}"
    try:
        plain.make_table(table)
        tasks = [
            plain.Task(
                stage.brokers,
                topic.topic,
                partitions=list(range(k, feeds.PARTITIONS, processes)),
                rows=rows // processes,
                form=topic.form,
                schema=avro_schema(feeds.SURVEY),
                table=table,
                model=stage.plain,
                way=way,
                threads=max(1, len(os.sched_getaffinity(0)) // processes),
                warm_up=topic.warm_up,
            )
            for k in range(processes)
        ]
        found = race(plain.prepare, [(task,) for task in tasks])
        written = DeltaTable(str(table)).to_pyarrow_dataset().count_rows()
        if not written == found.rows == rows:
            raise RuntimeError(f"the plain way wrote {written:,} rows, not {rows:,}")
    finally:
        shutil.rmtree(table, ignore_errors=True)
    return found


def _compared(case: Case, races: Races) -> Result:
    rate, spread = middle([r.rate for r in races[case, OURS]])
    peers = {name: [r.rate for r in races[case, name]] for name in case.peers}
    ratios = {
        name: middle([o.rate / p for o, p in zip(races[case, OURS], rates, strict=True)])
        for name, rates in peers.items()
    }
    return Result(
        str(case),
        rate,
        "rows/s",
        {name: middle(rates)[0] for name, rates in peers.items()},
        spread,
        peer_spreads={name: middle(rates)[1] for name, rates in peers.items()},
        ratios={name: ratio for name, (ratio, _) in ratios.items()},
        ratio_spreads={name: margin for name, (_, margin) in ratios.items()},
    )


def _peak(case: Case, races: Races) -> Result:
    peak, spread = middle([r.peak / 1e6 for r in races[case, OURS]])
    peers = {name: middle([r.peak / 1e6 for r in races[case, name]])[0] for name in case.peers}
    return Result(f"memory of a process: {case}", peak, "MB", peers, spread, higher_is_better=False)


def _by_stage(case: Case, races: list[Race], least: dict[str, float]) -> list[Result]:
    spent = {name: middle(values) for name, values in _stages(races)}
    return [
        Result(
            f"stage: {name} ({case})",
            spent[name][0],
            "us/object",
            {limits.KINDS[name]: least[name]} if name in least else {},
            spread=spent[name][1],
            higher_is_better=False,
        )
        for name in STAGES
    ]


def _stages(races: list[Race]) -> list[tuple[str, list[float]]]:
    """Microseconds of CPU per object of each stage, in all repeats."""
    return [(name, [r.stages[name] for r in races]) for name in races[0].stages]
