"""Run as a program: mutated cutouts that end right before memory nobody may touch. A byte too far ends the process."""

import ctypes
import gzip
import mmap
import random
import sys

import numpy as np

from schemas import cutouts
from schemas.avro import Buffers, Spans
from tests.cutout_files import mutated, rubin_like, ztf_like

PAGE = mmap.PAGESIZE
ROOM = 8  # pages between two that are guarded


def main(count: int, seed: int) -> None:
    """Read `count` cutouts, each with its last byte at the end of a page, and once more with its first there."""
    memory = mmap.mmap(-1, (ROOM + 2) * PAGE)
    base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    for page in (0, ROOM + 1):
        assert protect(base + page * PAGE, PAGE, 0) == 0
    rng, numbers = random.Random(seed), np.random.default_rng(seed)
    files = [ztf_like(numbers, 9, 7), rubin_like(numbers, 5, 6), gzip.compress(ztf_like(numbers))]
    good = 0
    for _ in range(count):
        file = rng.choice(files) if rng.random() < 0.1 else mutated(rng.choice(files), rng)
        file = file[: rng.choice([len(file), rng.randrange(len(file) + 1)])][: ROOM * PAGE]
        for offset in ((ROOM + 1) * PAGE - len(file), PAGE):
            memory[offset : offset + len(file)] = file
            there = Buffers(np.array([base + offset], np.uint64), np.array([len(file)]), memory)
            found = cutouts.decode(there, Spans(np.zeros(1, np.int64), np.array([len(file)])))
            good += int(found.status[0] == cutouts.CutoutStatus.GOOD)
    assert good > count // 20
    print("unharmed")  # noqa: T201


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
