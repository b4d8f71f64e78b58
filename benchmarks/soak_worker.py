"""A command of slipher to which things can be done from outside: ``python -m benchmarks.soak_worker FOLDER run ...``

What happens to it stands in `FOLDER` as files, so that it can begin and end while the process runs:

    at-PID   ``KILL 12``: die by SIGKILL on coming to step 12 of the commit protocol; ``STOP 12``: fall asleep there
    full     nothing can be staged: no space left on device
    lies     every third commit says something else than what became of it
    clock    milliseconds by which the clock is wrong
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

LYING = 3  # one commit in so many


def arm(folder: Path) -> None:
    """Put the fault points in. Called before anything of slipher runs."""
    import streamer.run
    from streamer.sink import ledger, staging
    from streamer.sink.ledger import Ledger

    _points(Ledger, folder / f"at-{os.getpid()}")
    _lies(Ledger, folder / "lies")
    full = folder / "full"
    honest_stage, honest_now = staging.stage, streamer.run.now_ms

    def stage(*given: Any, **more: Any) -> Any:
        if full.exists():
            raise OSError(28, "No space left on device")
        return honest_stage(*given, **more)

    def now_ms() -> int:
        return honest_now() + _number(folder / "clock")

    ledger.stage = stage  # type: ignore[attr-defined]
    streamer.run.now_ms = now_ms


def _points(kind: Any, order: Path) -> None:
    honest: Callable[..., None] = kind.__init__

    def init(self: Any, *given: Any, **more: Any) -> None:
        honest(self, *given, **more)
        self.point = point

    def point(step: int) -> None:
        if not order.exists():
            return
        what, when = order.read_text().split()
        if int(when) == step:
            order.unlink()  # it has struck: whoever gave the order looks for the file
            os.kill(os.getpid(), signal.SIGKILL if what == "KILL" else signal.SIGSTOP)

    kind.__init__ = init


def _lies(kind: Any, order: Path) -> None:
    honest: Callable[..., bool] = kind._swap
    calls = 0

    def swap(self: Any, *given: Any, **more: Any) -> bool:
        nonlocal calls
        calls += 1
        if calls % LYING or not order.exists():
            return honest(self, *given, **more)
        if calls % (2 * LYING):
            honest(self, *given, **more)  # it may have landed, and says that it failed
        return False

    kind._swap = swap


def _number(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 0


if __name__ == "__main__":
    from streamer.cli.main import main

    arm(Path(sys.argv[1]))
    sys.argv = ["slipher", *sys.argv[2:]]
    main()
