"""Watching a process as its settings ask: metrics and health over HTTP, traces. What is not asked for is not loaded."""

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from schemas.errors import UserError
from streamer import traces
from streamer.observer import Lookout, together
from streamer.settings import WatchedSettings
from streamer.supervisor import Supervisor

log = logging.getLogger(__name__)

HIGHEST_PORT = 65_535


@contextmanager
def watched(settings: WatchedSettings) -> Iterator[Lookout]:
    """What a worker tells of itself to, while it lives.

    Raises
    ------
    UserError
        The port is taken, or OpenTelemetry is not installed.
    """
    lookouts: list[Lookout] = []
    with ExitStack() as closing:
        if settings.metrics_port is not None:
            from streamer.metrics.server import Server
            from streamer.metrics.station import Station

            station = Station()
            server = Server(settings.metrics_host, settings.metrics_port, station.meters, station.alive, station.ready)
            closing.callback(server.close)
            lookouts.append(station)
        if tracing := _traces(settings.traces):
            closing.callback(tracing.close)
            lookouts.append(tracing)
        yield together(lookouts)


def _traces(asked: bool) -> traces.Traces | None:
    if not asked and not traces.wanted():
        return None
    try:
        return traces.Traces()
    except UserError as error:
        if asked:
            raise
        log.warning("no traces are sent: %s", error)  # a variable that a whole machine may have
        return None


@contextmanager
def supervised(settings: WatchedSettings, supervisor: Supervisor, workers: int) -> Iterator[None]:
    """Serve what `supervisor` of so many workers knows, on the port after its last worker's, where metrics are asked for.

    Raises
    ------
    UserError
        There are not so many ports, or this one is taken.
    """
    if settings.metrics_port is None:
        yield
        return
    from streamer.metrics import names
    from streamer.metrics.health import Verdict
    from streamer.metrics.meters import Meters
    from streamer.metrics.server import Server

    port = settings.metrics_port + workers
    if port > HIGHEST_PORT:
        raise UserError(
            f"--metrics-port {settings.metrics_port}: {workers} workers and their supervisor need the ports up to {port}, "
            f"and the highest is {HIGHEST_PORT}."
        )
    meters = Meters(names.SUPERVISOR)
    restarts = meters.counter(names.RESTARTS)
    counted = {number: restarts.labels(number) for number in range(1, workers + 1)}
    supervisor.again = lambda number: counted[number].inc()
    meters.gauge(names.WORKERS).set_function(lambda: supervisor.running)

    def ready() -> Verdict:
        running = supervisor.running
        return Verdict(running == workers, f"{running} of {workers} workers run")

    server = Server(settings.metrics_host, port, meters, lambda: Verdict(True, "alive"), ready)
    try:
        yield
    finally:
        server.close()
