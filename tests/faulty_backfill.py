"""``slipher backfill`` that dies by SIGKILL the TIME-th time at STEP: ``python -m tests.faulty_backfill STEP:TIME ...``."""

import os
import signal
import sys
from typing import Any

import streamer.backfill.crew
import streamer.source.files
from streamer.cli.main import main


def arm(step: int, time: int) -> None:
    honest, seen = streamer.backfill.crew.engine, 0

    def point(number: int) -> None:
        nonlocal seen
        seen += number == step
        if number == step and seen == time:
            os.kill(os.getpid(), signal.SIGKILL)

    def engine(*arguments: Any) -> Any:
        return honest(*arguments, point)

    streamer.backfill.crew.engine = engine
    streamer.source.files.BATCH_MESSAGES = 10


if __name__ == "__main__":
    where, *arguments = sys.argv[1:]
    arm(*map(int, where.split(":")))
    sys.argv = ["slipher", "backfill", *arguments]
    main()
