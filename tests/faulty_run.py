"""``slipher run`` with a fault point: ``python -m tests.faulty_run STEP:TIME ...`` dies by SIGKILL the TIME-th time at STEP."""

import os
import signal
import sys

import streamer.run
from streamer.cli.main import main


def arm(step: int, time: int) -> None:
    honest, seen = streamer.run.build, 0

    def point(number: int) -> None:
        nonlocal seen
        seen += number == step
        if number == step and seen == time:
            os.kill(os.getpid(), signal.SIGKILL)

    streamer.run.build = lambda *args, **more: honest(*args, **more, point=point)


if __name__ == "__main__":
    where, *arguments = sys.argv[1:]
    arm(*map(int, where.split(":")))
    sys.argv = ["slipher", "run", *arguments]
    main()
