"""``slipher monitor``: tonight at a glance in a browser, and the exporter of lag."""

from pathlib import Path
from typing import Annotated

import typer

from streamer.cli import options
from streamer.cli.console import CATALOG
from streamer.settings import MonitorSettings


@options.of(MonitorSettings)
def command(
    given: options.Given,
    catalog: Path = CATALOG,
    topic: options.OfTopic = None,
    model: options.OfModel = None,
    no_token: Annotated[
        bool, typer.Option("--no-token", help="Everybody who reaches the address may look; that is meant.")
    ] = False,
    truth: Annotated[
        Path | None,
        typer.Option(
            metavar="TABLE",
            help="Parquet or CSV with object_id and z: known redshifts, to show calibration against.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Tonight at a glance in a browser: lag, rates, refusals, n(z), calibration, the newest PDFs; and /metrics of it.

    Works with the workers down: it reads the broker and the catalogue, and changes neither. It listens on this machine alone
    unless told otherwise: `ssh -L 8642:127.0.0.1:8642 HOST` brings it to yours. Ctrl-C ends it.
    """
    import importlib.util
    import logging
    import os
    import sys

    from schemas.errors import UserError

    missing = [name for name in ("starlette", "uvicorn") if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"The monitor needs {' and '.join(missing)}: `pip install 'slipher[monitor]'`.")
    from streamer.catalogue import open_catalogue
    from streamer.cli.console import log_to_stderr
    from streamer.lag.watch import Watch
    from streamer.monitor.access import Door, is_loopback, refuse_open, token_from
    from streamer.monitor.app import Monitor
    from streamer.monitor.assets import has_charts
    from streamer.monitor.desk import Desk
    from streamer.monitor.sampler import Sampler
    from streamer.monitor.server import Server, bound
    from streamer.night_data import read_truth
    from streamer.settings import settings

    what = settings(MonitorSettings, given)
    log_to_stderr(logging.INFO, what)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    token = token_from(what.monitor_token_file, os.environ.get("SLIPHER_MONITOR_TOKEN"))
    refuse_open(what.monitor_host, token, no_token)
    known = read_truth(truth) if truth is not None else None
    opened = open_catalogue(catalog)
    watch = Watch(opened, what.brokers, what.kafka, topic, model)
    sampler, desk = Sampler(watch.look, opened.root, what.monitor_every), Desk(opened.root, known)
    monitor = Monitor(sampler, desk, Door(token), str(catalog), what.monitor_every)
    with bound(what.monitor_host, what.monitor_port) as listening:
        address, number = listening.getsockname()[:2]
        if not has_charts():
            logging.getLogger(__name__).warning("uPlot is not part of this installation: the page has no charts")
        where = f"[{address}]" if ":" in address else address
        sys.stderr.write(f"slipher: http://{where}:{number}  shows {catalog}. Ctrl-C ends it.\n")
        sys.stderr.flush()
        app = monitor.app(only_local=token is None and is_loopback(what.monitor_host))
        Server(app, monitor.events.close).serve_until_told(listening)
