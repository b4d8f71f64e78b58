"""`slipher run`: consume a topic and write redshift PDFs to a catalogue."""

from typing import Annotated

import typer

from streamer.cli import options
from streamer.settings import RunSettings, run_settings


@options.of(RunSettings)
def command(
    given: options.Given,
    until_end: Annotated[bool, typer.Option("--until-end", help="Stop once everything there was is durable.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Warnings only.")] = False,
) -> None:
    """Consume a topic and write calibrated redshift PDFs to a catalogue.

    Several workers with the same model and group share the partitions: --workers on one machine, more of these commands on
    others. SIGTERM or Ctrl-C commits what was read and leaves;
    a second one leaves at once: nothing is lost or doubled either way, the next start reads again what was not durable.
    """
    import gc
    import logging
    import signal
    import sys

    from streamer.cli.console import log_to_stderr

    settings = run_settings(**given)
    log_to_stderr(logging.WARNING if quiet else logging.INFO, settings)
    if settings.workers > 1:
        _supervise(settings, until_end)
        return
    from streamer.metrics.serving import watched

    with watched(
        settings
    ) as lookout:  # first of all, so that a worker that loads its model can be asked for its health
        import pyarrow as pa

        from streamer.follow import Follower, is_pattern
        from streamer.run import build
        from streamer.tally import Progress

        pa.set_cpu_count(1)  # one process a core: more threads in it would only contend
        gc.set_threshold(100_000, 20, 100)  # halves the cost of a message: a batch is thousands of short-lived objects

        log = logging.getLogger("slipher")

        def said(progress: Progress) -> None:
            fields = {key: getattr(progress, key) for key in ("rows", "messages", "refused", "reasons")}
            log.info(
                "durable: %d rows of %d messages, %s, commit %d",
                progress.rows,
                progress.messages,
                progress.exceptions,
                progress.commits,
                extra=fields | {"commit": progress.commits},
            )

        engine = (Follower if is_pattern(settings.topic) else build)(settings, until_end, said, lookout=lookout)
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, lambda number, frame: engine.stop())
        done = engine.run()
    sys.stdout.write(f"{done.rows:,} rows of {done.messages:,} messages are durable, {done.exceptions}.\n")


def _supervise(settings: RunSettings, until_end: bool) -> None:
    import signal
    import sys

    from streamer.gpus import gpu_of_each
    from streamer.logs import passed_on
    from streamer.metrics.serving import supervised
    from streamer.supervisor import Supervisor, worker_commands

    def hear(number: int, line: str) -> None:
        sys.stderr.write(passed_on(line, number, settings.log_format) + "\n")

    instance, count = settings.kafka.get("group.instance.id"), settings.workers
    commands = worker_commands(sys.argv[1:], count, instance, settings.metrics_port, gpu_of_each(settings, count))
    supervisor = Supervisor(commands, until_end, hear)
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda number, frame: supervisor.stop())
    with supervised(settings, supervisor, count):
        code = supervisor.run()
    if code:
        raise typer.Exit(code)
