"""What a check found, and how checks are run: side by side, each with an end."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import StrEnum
from typing import NamedTuple

from schemas.errors import SlipherError


class State(StrEnum):
    """How it stands."""

    OK = "ok"
    NOTE = "note"  # a run goes, but a person may want to know
    WRONG = "wrong"  # a run does not go, or not as it should
    SKIPPED = "skipped"  # not looked at: the text says why


class Finding(NamedTuple):
    """One line of the doctor.

    Attributes
    ----------
    check
        What was looked at: broker, topic, table ...
    state
        How it stands.
    text
        What was found.
    mend
        What to do; "" where nothing is to be done.
    """

    check: str
    state: State
    text: str
    mend: str = ""


class Check(NamedTuple):
    """A check: the name of its first line, and what makes them all, at once or one after the other."""

    name: str
    look: Callable[[], Iterable[Finding]]


def examine(checks: Sequence[Check], seconds: float) -> list[Finding]:
    """Run `checks` side by side; what is not at its end after `seconds` is said to hang, and is left behind.

    Returns
    -------
    findings
        In the order of `checks`. An error of a check is a finding. What a check found before it failed or hung is kept.
    """
    found: list[list[Finding]] = [[] for _ in checks]
    done: set[int] = set()

    def ask(number: int, check: Check) -> None:
        for finding in _asked(check):
            found[number].append(finding)
        done.add(number)

    threads = [
        threading.Thread(target=ask, args=(n, check), name=f"doctor-{check.name}", daemon=True)
        for n, check in enumerate(checks)
    ]
    for thread in threads:
        thread.start()
    end = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    out: list[Finding] = []
    for n, check in enumerate(checks):
        ended, told = n in done, list(found[n])  # in this order: one that ends meanwhile has told all
        if not ended:
            what = "what is left of it: no answer" if told else "no answer"
            told.append(wrong(check.name, f"{what} within {seconds:g} s", "Look whether it hangs."))
        out += told
    return out


def _asked(check: Check) -> Iterator[Finding]:
    try:
        yield from check.look()
    except SlipherError as error:  # its sentence holds the mend
        yield wrong(check.name, str(error))
    except Exception as error:
        yield wrong(check.name, f"{type(error).__name__}: {error}", "This check could not be made.")


def ok(check: str, text: str) -> Finding:
    """All is well."""
    return Finding(check, State.OK, text)


def note(check: str, text: str, mend: str = "") -> Finding:
    """A run goes, but a person may want to know."""
    return Finding(check, State.NOTE, text, mend)


def wrong(check: str, text: str, mend: str = "") -> Finding:
    """A run does not go."""
    return Finding(check, State.WRONG, text, mend)


def skipped(check: str, text: str) -> Finding:
    """Not looked at."""
    return Finding(check, State.SKIPPED, text)
