"""A question to what may hang, a disk or a broker: asked in a thread of its own, and only while somebody wants to know."""

import threading
import time
from collections.abc import Callable

from schemas.errors import SlipherError

EVERY_S = 5.0  # an answer is as good as new for so long
PATIENCE_S = 15.0  # an answer that takes longer is one, too
WAIT_S = 0.5  # that a person, a scrape, or a prober with a time-out of a second, waits for new answers


class Probe:
    """One question, with the last answer to it.

    Parameters
    ----------
    what
        The thing that is asked, for sentences.
    ask
        Returns what is wrong with it, empty where nothing is; a ``SlipherError`` or an ``OSError`` is wrong, too.
    clock
        Monotonic seconds.
    """

    def __init__(self, what: str, ask: Callable[[], str], clock: Callable[[], float] = time.monotonic) -> None:
        self._what, self._ask, self._clock = what, ask, clock
        self._lock = threading.Lock()
        self._asked_at: float | None = None  # the question on its way
        self._answered = threading.Event()
        self._answer: str | None = None
        self._answered_at = 0.0

    def ask(self) -> bool:
        """Put the question, unless it is on its way or its answer as good as new; whether there is an answer to wait for."""
        with self._lock:
            old = self._answer is None or self._clock() - self._answered_at > EVERY_S
            if old and self._asked_at is None:
                self._asked_at = self._clock()
                self._answered.clear()
                threading.Thread(target=self._run, name=f"probe {self._what}", daemon=True).start()
        return old

    def wrong(self, wait: float = WAIT_S) -> str:
        """What is wrong, as far as is known now; empty where nothing is. Takes not much longer than `wait` seconds."""
        if self.ask():
            self._answered.wait(wait)
        with self._lock:
            if self._asked_at is not None and (waited := self._clock() - self._asked_at) > PATIENCE_S:
                return f"{self._what} has not answered for {waited:.0f} s"
            return f"{self._what} has not answered yet" if self._answer is None else self._answer

    def _run(self) -> None:
        try:
            answer = self._ask()
        except (SlipherError, OSError) as error:
            answer = str(error).rstrip(".")
        except Exception as error:  # it must not be taken for an old answer that was good
            answer = f"{self._what} cannot be asked ({type(error).__name__}: {error})"
        with self._lock:
            self._answer, self._answered_at, self._asked_at = answer, self._clock(), None
        self._answered.set()
