"""Mutated Avro messages: no crash, no hang, what both we and fastavro accept is equal, and each difference is of a known kind."""

import time

from rich.console import Console

from benchmarks.avro_fuzz import LENIENT, fuzz
from benchmarks.report import Result

COUNT = 1_000_000
PART = 20_000  # messages between two lines: each part has a seed of its own
MOST_SECONDS = 60.0  # of a part: more is a hang, the mean is two seconds
KINDS = ("both accept", "both refuse", *sorted(status.name for status in LENIENT), "UNREAD_TEXT", "SKIPPED_BLOCK")


def run(quick: bool, count: int | None = None, seed: int = 1) -> list[Result]:
    """How many messages ended in which way.

    Parameters
    ----------
    quick
        A fiftieth of them.
    count
        Messages.
    seed
        Of the first part; the others count on from it.

    Raises
    ------
    AssertionError
        Values differ, or a difference is of no known kind; the message is named, and the seed.
    """
    wanted = count or (COUNT // 50 if quick else COUNT)
    console = Console(stderr=True)
    found = dict.fromkeys(("messages", *KINDS), 0)
    for part, first in enumerate(range(0, wanted, PART)):
        began = time.monotonic()
        try:
            counts = fuzz(count=min(PART, wanted - first), seed=seed + part)
        except AssertionError as error:
            raise AssertionError(f"seed {seed + part}: {error}") from error
        took = time.monotonic() - began
        if took > MOST_SECONDS:
            raise AssertionError(f"seed {seed + part}: a part took {took:.0f} s: something hangs")
        for kind, number in counts.items():
            found[kind] += number  # KeyError: a kind of difference that is listed nowhere
        console.print(f"{found['messages']:,} messages, seed {seed + part}: {took:.1f} s")
    if sum(found.values()) != 2 * wanted:
        raise AssertionError(f"of {wanted} messages {sum(found.values()) - wanted} ended in a known way")
    return [Result(kind, float(number), "messages") for kind, number in found.items()]
