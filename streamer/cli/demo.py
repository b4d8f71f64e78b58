"""``slipher demo``: a night end to end on this machine."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from streamer.demo.stage import Folder, Outcome
    from streamer.sink.verify import Report


def command(
    alerts: Annotated[int, typer.Option(min=1_000, help="Alerts of the night.")] = 200_000,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Worker processes.")] = 2,
    folder: Annotated[Path, typer.Option(help="Where the model, catalogue and pictures go.")] = Path("demo-night"),
    brokers: Annotated[str | None, typer.Option(help="Your own Kafka; else one is started and stopped here.")] = None,
    topic: Annotated[str | None, typer.Option(help="Topic to make. Default: lsst-alerts-demo.")] = None,
    seed: Annotated[int, typer.Option(help="Of the night.")] = 1,
) -> None:
    """A night end to end on this machine: Kafka, alerts, workers, a verified catalogue, pictures.

    Trains a forest on simulated Rubin photometry (DESC's DC2), publishes a night of alerts drawn from galaxies it has never
    seen, lets two workers turn them into redshift PDFs, proves that every offset was accounted for exactly once, and draws
    what came out. About a minute the first time; the second time the model is there already.
    """
    import time
    from contextlib import ExitStack

    from rich.console import Console

    from streamer.broker.server import Broker
    from streamer.cli.broker import prepared
    from streamer.configuration import toml_file
    from streamer.demo import stage

    toml_file.use(Path(os.devnull))  # the night is the same whatever file of settings stands in this directory
    console = Console(highlight=False)
    begun = time.monotonic()
    place = stage.prepare(folder)
    with ExitStack() as stack:
        if brokers is None:
            _act(console, 1, "Apache Kafka", "starting one on this machine; it goes when the demo ends")
            prepared(Console(stderr=True, highlight=False))
            broker = stack.enter_context(Broker())
            brokers = broker.bootstrap
            console.print(f"   listening at {brokers}")
        else:
            _act(console, 1, "Apache Kafka", f"yours, at {brokers}")
        _train(console, place)
        _act(console, 3, "A night", f"{alerts:,} alerts of galaxies the model has never seen")
        night = stage.make_night(place, alerts, seed)
        console.print(
            "   DC2 validation galaxies drawn with replacement, half an error bar of fresh noise, reddened by dust;"
        )
        console.print(f"   every {stage_poison():,}th followed by a message broken on purpose", style="dim")
        _act(
            console,
            4,
            "Streaming",
            f"{workers} workers (`slipher run`), each its own process, log in {folder}/workers.log",
        )
        console.print(f"   first alert {time.monotonic() - begun:.1f} s after the command", style="dim")
        outcome = _stream(console, place, night, brokers, topic or stage.TOPIC, workers)
    _summary(console, place, outcome, alerts)
    console.print(f"\nAll of it took {time.monotonic() - begun:.0f} s. Look further:")
    _next(console, place, folder)


def stage_poison() -> int:
    """Alerts between two broken messages."""
    from streamer.demo.sky import POISON_EVERY

    return POISON_EVERY


def _act(console: "Console", number: int, title: str, text: str) -> None:
    console.print(f"\n[bold cyan]{number}. {title}[/]  {text}")


def _train(console: "Console", place: "Folder") -> None:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from schemas.bands import band_set
    from streamer.cli.model_card import metrics_table
    from streamer.demo import stage

    _act(console, 2, "The model", "100 extra trees on 10,225 simulated Rubin galaxies (DESC DC2, ugrizy)")
    with Progress(
        TextColumn("   {task.description}"), BarColumn(), TimeElapsedColumn(), console=console, transient=True
    ) as bar:
        task = bar.add_task("reading", total=1.0)
        held_out = stage.train(
            place, band_set(stage.SURVEY), lambda what, done: bar.update(task, description=what, completed=done)
        )
    if held_out is None:
        console.print(f"   trained before: {place.model}")
    else:
        console.print(metrics_table(held_out))


def _stream(console: "Console", place: "Folder", night: Any, brokers: str, topic: str, workers: int) -> "Outcome":
    from rich.live import Live

    from streamer.demo import stage

    with Live(console=console, refresh_per_second=8, transient=False) as live:
        return stage.play(
            place, night, brokers, topic, workers, lambda watch, glance: live.update(watch.picture(glance))
        )


def _summary(console: "Console", place: "Folder", outcome: "Outcome", alerts: int) -> None:
    from models import bundle as bundles
    from schemas.errors import IntegrityError
    from streamer.catalogue import open_catalogue
    from streamer.cli.model_card import metrics_table
    from streamer.demo import stage
    from streamer.demo.figures import night_figures, size_on_disk
    from streamer.night_plots import draw_night
    from streamer.sink.verify import verify

    _act(console, 5, "Proof", "every offset accounted for, from the tables alone")
    report: Report = verify(place.catalog)
    for line in report.lines():
        console.print(f"   {line}")
    if not report.ok:
        raise IntegrityError("The night is not whole: please report this, with the folder.")

    catalogue = open_catalogue(place.catalog)
    model = catalogue.models()["model"].to_pylist()[0]
    truth = stage.truth_of(place)
    _act(console, 6, "Figures", "of this night: its noise is the demo's own, worse than the survey's")
    bundle = bundles.read(place.model)
    figures = night_figures(catalogue, truth, model, bundle.tensors["z"])
    console.print(metrics_table(figures))
    size = size_on_disk(place.catalog)
    console.print(
        f"   {outcome.messages:,} messages in {outcome.seconds:.1f} s, start of the workers included: "
        f"[bold]{outcome.messages / outcome.seconds:,.0f}/s[/]; {size / report.rows:.0f} bytes a row, "
        f"a 301-point PDF in each"
    )
    _act(console, 7, "Pictures", str(place.plots))
    for path in draw_night(catalogue, model=model, truth=truth, out=place.plots):
        console.print(f"   {path}")


def _next(console: "Console", place: "Folder", folder: Path) -> None:
    import shutil

    from streamer.catalogue import open_catalogue

    prefix = "" if shutil.which("slipher") else ".venv/bin/"
    first = open_catalogue(place.catalog).head(1, columns=["object_id"])["object_id"][0].as_py()
    for text in (
        f"slipher catalog info {place.catalog}",
        f"slipher catalog show {place.catalog} {first}",
        f"slipher dead-letters list {place.catalog}",
        f"slipher model show {place.model}",
        f"slipher catalog export {place.catalog} {folder}/night.parquet",
    ):
        console.print(f"   [green]{prefix}{text}[/]", soft_wrap=True)
