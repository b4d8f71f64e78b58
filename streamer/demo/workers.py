"""The demo's workers: ``slipher run --workers N``, as a person would start them."""

import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from schemas.errors import TroubleError
from streamer.broker.process import spawn

STOP_SECONDS = 25.0  # a supervisor kills a worker that does not leave within 20


class Workers:
    """`count` workers under a supervisor; they leave with us, whatever happens to us.

    Parameters
    ----------
    count
        How many.
    arguments
        Of ``slipher run``.
    folder
        Where their log goes: ``workers.log``.
    """

    def __init__(self, count: int, arguments: list[str], folder: Path) -> None:
        self._command = [sys.executable, "-m", "streamer", "run", *arguments, "--workers", str(count)]
        self._folder, self.log = folder, folder / "workers.log"
        self._running: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with self.log.open("wb") as out:
            self._running = spawn(self._command, out, self._folder, signal.SIGTERM)
        return self

    def check(self) -> None:
        """Raise ``TroubleError`` with their last words where they have given up."""
        if self._running is not None and self._running.poll() is not None:
            words = self.log.read_text(errors="replace").strip().splitlines()[-3:]
            raise TroubleError(f"The workers ended ({self._running.poll()}): {' '.join(words)} See {self.log}.")

    def stop(self) -> None:
        """SIGTERM: they commit and leave."""
        if self._running is None:
            return
        self._running.terminate()
        try:
            self._running.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._running.kill()
            self._running.wait()
        self._running = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
