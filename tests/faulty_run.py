"""``slipher run`` with fault points, for tests.

``python -m tests.faulty_run 12:1 ...`` dies by SIGKILL the first time it comes to step 12 of the commit protocol.

``python -m tests.faulty_run each KILL:1:1,STOP:16:1 ...`` starts a worker per fault, one after the other, each in a group of
its own and each a fork of one process that has everything loaded: a worker a second, not a worker in three. It says on stdout
what became of each; those that sleep are left asleep.
"""

import os
import signal
import sys
from collections.abc import Callable

import streamer.run
from streamer.cli.main import main


def arm(step: int, time: int, what: signal.Signals = signal.SIGKILL) -> None:
    """Send ourselves `what` the `time`-th time that we come to `step`."""
    honest, seen = streamer.run.build, 0

    def point(number: int) -> None:
        nonlocal seen
        seen += number == step
        if number == step and seen == time:
            os.kill(os.getpid(), what)

    streamer.run.build = lambda *args, **more: honest(*args, **more, point=point)


def each(faults: list[str], run: Callable[[], None]) -> None:
    """Fork a worker for each fault, and say how it ended, or that it sleeps."""
    for number, fault in enumerate(faults):
        what, step, time = fault.split(":")
        child = os.fork()
        if child == 0:
            sys.argv += ["--group", f"faulty-{os.getppid()}-{number}"]
            arm(int(step), int(time), signal.SIGKILL if what == "KILL" else signal.SIGSTOP)
            run()
        _, status = os.waitpid(child, os.WUNTRACED)
        if os.WIFSTOPPED(status):
            become = f"asleep {child}"
        else:
            become = f"ended {os.waitstatus_to_exitcode(status)}"
        sys.stdout.write(f"{fault} {become}\n")
        sys.stdout.flush()


def warm_up(arguments: list[str]) -> None:
    """Load what every worker loads: modules, and the kernels of the model that is named."""
    from pathlib import Path

    from models.estimator import load
    from schemas.native_decoder import NativeDecoder
    from tests.streaming import alerts

    galaxies, _ = alerts(10)
    load(Path(arguments[arguments.index("--model") + 1])).estimate(galaxies)
    NativeDecoder("lsst")


if __name__ == "__main__":
    where, *arguments = sys.argv[1:]
    if where == "each":
        faults, *arguments = arguments
        sys.argv = ["slipher", "run", *arguments]
        warm_up(arguments)
        each(faults.split(","), main)
    else:
        sys.argv = ["slipher", "run", *arguments]
        arm(*map(int, where.split(":")))
        main()
