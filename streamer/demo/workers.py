"""The demo's workers: ``slipher run``, as a person would start it, one process a core."""

import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from schemas.errors import TroubleError
from streamer.broker.process import spawn

STOP_SECONDS = 20.0


class Workers:
    """`count` processes of ``slipher run``; they leave with us, whatever happens to us.

    Parameters
    ----------
    count
        How many.
    arguments
        Of ``slipher run``.
    folder
        Where their logs go: ``worker-1.log``, ...
    """

    def __init__(self, count: int, arguments: list[str], folder: Path) -> None:
        self._count, self._arguments, self._folder = count, arguments, folder
        self._running: list[subprocess.Popen[bytes]] = []

    def log(self, number: int) -> Path:
        """What worker `number`, from 1, says."""
        return self._folder / f"worker-{number}.log"

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "streamer", "run", *self._arguments]
        for number in range(1, self._count + 1):
            with self.log(number).open("wb") as out:
                self._running.append(spawn(command, out, self._folder, signal.SIGTERM))
        return self

    def check(self) -> None:
        """Raise ``TroubleError`` with a worker's last words where one has died."""
        for number, worker in enumerate(self._running, 1):
            if worker.poll() is not None:
                words = self.log(number).read_text(errors="replace").strip().splitlines()[-3:]
                raise TroubleError(
                    f"Worker {number} ended ({worker.returncode}): {' '.join(words)} See {self.log(number)}."
                )

    def stop(self) -> None:
        """SIGTERM: they commit and leave."""
        for worker in self._running:
            worker.terminate()
        for worker in self._running:
            try:
                worker.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()
        self._running = []

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
