"""Trainings that need nothing of each other, each in a process with one thread; what one has found is kept in a folder.

On a machine whose cores others use too, a network's seconds are those of its thread, so that all have the same time; on a GPU one
process trains after the other, by the clock of the wall. A benchmark that was ended goes on with what is not in the folder yet.
"""

import json
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


class Job(NamedTuple):
    """What is to be found out.

    Attributes
    ----------
    name
        Of its file in the folder.
    work
        A function of a module, which other processes can import: gives arrays by name, and what else is to be told.
    given
        Its arguments.
    """

    name: str
    work: Callable[..., tuple[dict[str, np.ndarray], dict[str, Any]]]
    given: tuple[Any, ...]


class Found(NamedTuple):
    """What a job gave."""

    arrays: dict[str, np.ndarray]
    about: dict[str, Any]


def all_of(jobs: Sequence[Job], folder: Path, device: str) -> dict[str, Found]:
    """The results of all jobs by name, from the folder where they are there."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [job for job in jobs if not _file(folder, job).exists()]
    began = time.monotonic()
    if missing:
        processes = 1 if device == "cuda" else len(os.sched_getaffinity(0))
        with ProcessPoolExecutor(processes, get_context("spawn"), _one_thread, (device,)) as pool:
            running = {pool.submit(_kept, job, folder): job for job in missing}
            for k, done in enumerate(as_completed(running), 1):
                done.result()
                minutes = (time.monotonic() - began) / 60
                print(f"{k} of {len(missing)}: {running[done].name}, after {minutes:.1f} min", flush=True)
    return {job.name: _read(_file(folder, job)) for job in jobs}


def _file(folder: Path, job: Job) -> Path:
    return folder / f"{job.name.replace(' ', '-').replace(',', '')}.npz"


def _one_thread(device: str) -> None:
    """Before the libraries are asked for anything."""
    if device != "cuda":
        import numba
        import torch

        torch.set_num_threads(1)
        numba.set_num_threads(1)


def _kept(job: Job, folder: Path) -> None:
    arrays, about = job.work(*job.given)
    beside = folder / f".{os.getpid()}.npz"
    np.savez(beside, about=np.array(json.dumps(about, default=float)), **arrays)  # type: ignore[arg-type]
    os.replace(beside, _file(folder, job))


def _read(path: Path) -> Found:
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    return Found(arrays, json.loads(str(arrays.pop("about"))))
