"""Mutated messages never crash the engine, and every difference from an Avro library is of a known kind."""

import os
import secrets

import pytest

from benchmarks.avro_fuzz import LENIENT, fuzz

KINDS = {"messages", "both accept", "both refuse", "UNREAD_TEXT", "SKIPPED_BLOCK"} | {status.name for status in LENIENT}


SECONDS = float(os.environ.get("SLIPHER_FUZZ_SECONDS", "5"))


def test_mutated_messages() -> None:
    counts = fuzz(count=20_000, seed=5)
    assert counts["messages"] == 20_000
    assert sum(counts.values()) == 2 * 20_000  # each message ends in one way
    assert set(counts) <= KINDS
    assert {"TRAILING", "INT", "VARINT", "BOOLEAN", "BLOCK", "BRANCH", "SYMBOL", "UNREAD_TEXT"} <= set(counts)
    assert counts["both accept"] > 2_000


@pytest.mark.timeout(SECONDS + 120)
def test_as_many_mutated_messages_as_there_is_time_for() -> None:
    seed = 6 if os.environ.get("CI") else secrets.randbits(32)
    try:
        counts = fuzz(seconds=SECONDS, seed=seed)
    except AssertionError as error:
        raise AssertionError(f"with seed {seed}: {error}") from error
    assert set(counts) <= KINDS
    assert sum(counts.values()) == 2 * counts["messages"]


def test_the_same_seed_is_the_same_fuzz() -> None:
    assert fuzz(count=1000, seed=9) == fuzz(count=1000, seed=9)
    assert fuzz(count=1000, seed=9) != fuzz(count=1000, seed=10)
