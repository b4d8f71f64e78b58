"""Run as a program: mutated messages that end right before memory nobody may touch. A byte too far ends the process."""

import ctypes
import mmap
import random
import sys

import numpy as np

from benchmarks.avro_fuzz import mutated, subjects
from schemas import avro

PAGE = mmap.PAGESIZE
NOTHING = 0  # PROT_NONE


def main(count: int, seed: int) -> None:
    """Read `count` messages, one by one, each with its last byte at the end of a page, and once more with its first there."""
    memory = mmap.mmap(-1, 4 * PAGE)
    base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    for page in (0, 3):
        assert protect(base + page * PAGE, PAGE, NOTHING) == 0
    rng = random.Random(seed)
    some = subjects(seed)
    programs = [avro.compile_schema(subject.schema, subject.wants) for subject in some]
    projected = [avro.compile_schema(subject.schema, subject.wants[-2:]) for subject in some]
    good = np.ones(1, bool)
    for _ in range(count):
        k = rng.randrange(len(some))
        message = mutated(some[k].messages, rng)[: 2 * PAGE]
        for offset in (3 * PAGE - len(message), PAGE):
            memory[offset : offset + len(message)] = message
            there = avro.Buffers(np.array([base + offset], np.uint64), np.array([len(message)]), memory)
            for program in (programs[k], projected[k]):
                decoded = program.run(there, 0)
                for column in decoded.columns.values():
                    if isinstance(column, avro.Spans):
                        avro.strings(column, there, good)
    sys.stdout.write("unharmed\n")


def stray() -> None:
    """A message that claims a byte more than it has: this must end the process, or the guard is none."""
    memory = mmap.mmap(-1, 4 * PAGE)
    base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    ctypes.CDLL(None).mprotect(ctypes.c_void_p(base + 3 * PAGE), ctypes.c_size_t(PAGE), NOTHING)
    program = avro.compile_schema(
        {"type": "record", "name": "R", "fields": [{"name": "x", "type": "double"}]}, [avro.Want("x", "f8")]
    )
    program.run(avro.Buffers(np.array([base + 3 * PAGE - 7], np.uint64), np.array([8]), memory), 0)
    sys.stdout.write("unharmed\n")


if __name__ == "__main__":
    stray() if sys.argv[1] == "stray" else main(int(sys.argv[1]), int(sys.argv[2]))
