"""``slipher broker``: an Apache Kafka on this machine, started, stopped, looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from streamer.cli.console import group

if TYPE_CHECKING:
    from rich.console import Console

    from streamer.broker.resident import Resident
    from streamer.broker.runtime import Runtime

app = group("An Apache Kafka on this machine: start, stop, status.")


@app.command()
def start(
    port: int = typer.Option(9092, "--port", min=1, max=65535, help="Port for clients on 127.0.0.1."),
    temporary: bool = typer.Option(False, "--temporary", help="Start empty; delete the data when stopped."),
    log_level: str = typer.Option("WARN", "--log-level", help="What broker.log tells: ERROR, WARN, INFO or DEBUG."),
) -> None:
    """Start Kafka and leave it running; its data are kept between starts.

    The first start downloads Kafka (45 MB) and prepares it for fast starts.
    """
    from rich.console import Console

    from schemas.errors import UserError
    from streamer.broker import resident
    from streamer.broker.settings import BrokerSettings

    if log_level.upper() not in ("ERROR", "WARN", "INFO", "DEBUG"):
        raise UserError(f"--log-level is ERROR, WARN, INFO or DEBUG, not {log_level}.")
    console = Console(highlight=False)
    found, started = resident.running(), False
    if found is None:
        settings = BrokerSettings(port=port, log_level=log_level.upper())
        runtime = prepared(Console(stderr=True, highlight=False))
        found, started = resident.start(settings, temporary=temporary, runtime=runtime)
    word = "started" if started else "already running"
    console.print(f"[bold green]Kafka {word}[/] at [bold]{found.bootstrap}[/]")
    if not started and (found.bootstrap.rsplit(":", 1)[1] != str(port) or found.temporary != temporary):
        console.print("It keeps its port and its data; `slipher broker stop` first to start it otherwise.")
    _show(console, found)


@app.command()
def stop(wipe: bool = typer.Option(False, "--wipe", help="Delete the kept data: all topics and offsets.")) -> None:
    """Stop Kafka. What is in its topics is kept, unless it was started with --temporary."""
    from rich.console import Console

    from streamer.broker import resident

    found = resident.stop(wipe=wipe)
    console = Console(highlight=False)
    console.print("[bold]Kafka stopped[/]." if found else "No Kafka of slipher's runs here.")
    if wipe:
        console.print("Its data are deleted.")
    elif found and not found.temporary:
        console.print(f"Its data stay in {found.home}", soft_wrap=True)


@app.command()
def status() -> None:
    """Where Kafka listens, since when, and where its data and log are. Exit code 0 if it runs, 1 if not."""
    from rich.console import Console

    from streamer.broker import resident

    console = Console(highlight=False)
    found = resident.running()
    if found is None:
        console.print("No Kafka of slipher's runs here; `slipher broker start` starts one.")
        if kept := resident.disk_usage(resident.kept_home() / "data"):
            console.print(f"Kept data: {_size(kept)} in {resident.kept_home()}", soft_wrap=True)
        raise typer.Exit(1)
    console.print(f"[bold green]Kafka runs[/] at [bold]{found.bootstrap}[/]")
    _show(console, found)


def prepared(console: Console) -> Runtime:
    """What a broker needs, made ready; a bar shows the download, a line what else takes long. Nothing if all is there."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

    from streamer.broker.server import prepare

    columns = (TextColumn("Downloading Apache Kafka"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    tasks: list[TaskID] = []
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:

        def progress(done: int, total: int) -> None:
            if not tasks:  # only once there is something to show
                tasks.append(bar.add_task("", total=total))
            bar.update(tasks[0], completed=done)

        return prepare(progress, lambda text: console.print(f"{text} ..."))


def _show(console: Console, found: Resident) -> None:
    import time
    from datetime import timedelta

    from rich.text import Text

    up = timedelta(seconds=round(max(0.0, time.time() - found.started_ms / 1000)))
    data = f"{_size(found.data_bytes)}, {'deleted at stop' if found.temporary else 'kept'}"
    for name, value in (("process", found.pid), ("up", up), ("data", data), ("log", found.log)):
        console.print(
            Text(f"{name:<9}", "dim") + Text(str(value)), soft_wrap=True
        )  # a path is never broken: it is copied


def _size(count: int) -> str:
    from rich.filesize import decimal

    return decimal(count)
