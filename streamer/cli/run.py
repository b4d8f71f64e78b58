"""`slipher run`: consume a topic and write redshift PDFs to a catalogue."""

from typing import Annotated

import typer

from streamer.cli import options


def command(
    topic: Annotated[
        str | None,
        typer.Option(
            help="Topic to read; or, from ^ on, a regular expression: every topic that it fits, new ones as they appear.",
            envvar="SLIPHER_TOPIC",
        ),
    ] = None,
    model: options.Model = None,
    catalog: options.Catalog = None,
    brokers: options.Brokers = None,
    start: Annotated[
        str | None, typer.Option(help="Where a first run begins: earliest, latest, an ISO time, or after:MODEL.")
    ] = None,
    group: Annotated[str | None, typer.Option(help="Consumer group. Default: slipher-<model>.")] = None,
    alerts: options.Alerts = None,
    framing: options.Framing = None,
    schema: options.Schema = None,
    dust_map: options.DustMap = None,
    dust_column: options.DustColumn = None,
    registry: options.Registry = None,
    registry_setting: options.RegistrySetting = None,
    pdf: options.Pdf = None,
    workers: Annotated[
        int, typer.Option(min=1, max=256, help="Worker processes on this machine; one that dies is started again.")
    ] = 1,
    commit_rows: options.CommitRows = None,
    commit_seconds: options.CommitSeconds = None,
    patience: options.Patience = None,
    refused_limit: options.RefusedLimit = None,
    refused_in_a_row: Annotated[
        int | None,
        typer.Option(help="Stop where more messages of a partition are refused one after another; 0 = never."),
    ] = None,
    until_end: Annotated[bool, typer.Option("--until-end", help="Stop once everything there was is durable.")] = False,
    kafka: options.Kafka = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Warnings only.")] = False,
) -> None:
    """Consume a topic and write calibrated redshift PDFs to a catalogue.

    Several workers with the same model and group share the partitions: --workers on one machine, more of these commands on
    others. SIGTERM or Ctrl-C commits what was read and leaves;
    a second one leaves at once: nothing is lost or doubled either way, the next start reads again what was not durable.
    """
    import gc
    import logging
    import os
    import signal
    import sys

    from streamer.cli.console import default_brokers, log_to_stderr
    from streamer.settings import key_values, run_settings

    log_to_stderr(logging.WARNING if quiet else logging.INFO)
    settings = run_settings(
        topic=topic,
        model=model,
        catalog=catalog,
        brokers=brokers or default_brokers(),
        start=start,
        group=group,
        alerts=alerts,
        framing=framing,
        schema_file=schema or None,
        dust_map=dust_map,
        dust_column=dust_column,
        pdf=pdf,
        commit_rows=commit_rows,
        commit_seconds=commit_seconds,
        patience=patience,
        refused_limit=refused_limit,
        refused_in_a_row=refused_in_a_row,
        registry=registry,
        registry_setting=key_values(registry_setting or [], "--registry-setting", "ssl.ca.location=FILE") or None,
        kafka=key_values(kafka or []) or None,
    )
    if workers > 1:
        _supervise(workers, settings.kafka.get("group.instance.id"), until_end)
        return
    import pyarrow as pa

    from streamer.follow import Follower, is_pattern
    from streamer.run import build
    from streamer.tally import Progress

    pa.set_cpu_count(1)  # one process a core: more threads in it would only contend
    gc.set_threshold(100_000, 20, 100)  # halves the cost of a message: a batch is thousands of short-lived objects

    log = logging.getLogger("slipher")

    def said(progress: Progress) -> None:
        log.info(
            "durable: %d rows of %d messages, %s, commit %d",
            progress.rows,
            progress.messages,
            progress.exceptions,
            progress.commits,
        )

    engine = (Follower if is_pattern(settings.topic) else build)(settings, until_end, said)
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda number, frame: engine.stop())
    done = engine.run()
    sys.stdout.write(f"{done.rows:,} rows of {done.messages:,} messages are durable, {done.exceptions}.\n")
    if engine.busy:  # a disk hangs, or a batch takes long: whatever it does yet is safe to leave
        sys.stdout.flush()
        os._exit(0)


def _supervise(count: int, instance: str | None, until_end: bool) -> None:
    import signal
    import sys

    from streamer.supervisor import Supervisor, worker_commands

    def hear(number: int, line: str) -> None:
        sys.stderr.write(f"[{number}] {line}\n")

    supervisor = Supervisor(worker_commands(sys.argv[1:], count, instance), until_end, hear)
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda number, frame: supervisor.stop())
    if code := supervisor.run():
        raise typer.Exit(code)
