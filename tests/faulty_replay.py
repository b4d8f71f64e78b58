"""``slipher replay`` with a fault point: ``python -m tests.faulty_replay STEP:TIME ...`` is killed at STEP, the TIME-th time."""

import os
import signal
import sys

import streamer.replay.plan
from streamer.cli.main import main


def arm(step: int, time: int) -> None:
    honest, seen = streamer.replay.plan.build, 0

    def point(number: int) -> None:
        nonlocal seen
        seen += number == step
        if number == step and seen == time:
            os.kill(os.getpid(), signal.SIGKILL)

    streamer.replay.plan.build = lambda *args, **more: honest(*args, **more, point=point)


if __name__ == "__main__":
    where, *arguments = sys.argv[1:]
    arm(*map(int, where.split(":")))
    sys.argv = ["slipher", "replay", *arguments]
    main()
