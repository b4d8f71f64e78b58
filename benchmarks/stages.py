"""Stopwatches of CPU time by stage. They stand in the benchmark only: the product carries none."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any


class Stages:
    """Seconds of CPU by stage, of the threads that ran them; what a stage calls of another stage counts there alone."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._thread = threading.local()
        self._at = time.thread_time()

    def timed(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, its CPU time charged to `stage`."""

        def stopped(*args: Any, **kwargs: Any) -> Any:
            elsewhere = getattr(self._thread, "elsewhere", 0.0)  # what the caller's stage has handed to others so far
            self._thread.elsewhere = 0.0
            began = time.thread_time()
            try:
                return function(*args, **kwargs)
            finally:
                spent = time.thread_time() - began
                self.seconds[stage] += spent - self._thread.elsewhere
                self._thread.elsewhere = elsewhere + spent

        return stopped

    def restart(self) -> None:
        """Marks count from now."""
        self._at = time.thread_time()

    def mark(self, stage: str) -> None:
        """Charge what passed since the last mark, in one thread, to `stage`."""
        now = time.thread_time()
        self.seconds[stage] += now - self._at
        self._at = now
