"""Where a training stood, in one safetensors file: a training that was ended goes on from it. Nothing in it can run code."""

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from schemas.errors import UserError

KEY, MARK = "slipher-training", "slipher-training-of"


class State(NamedTuple):
    """Tensors by name, and numbers that JSON can hold."""

    tensors: dict[str, torch.Tensor]
    numbers: dict[str, Any]


def write(path: Path, state: State, mark: str = "") -> None:
    """Whole or not at all; `mark` names what is trained on what.

    Raises
    ------
    schemas.errors.UserError
        If the place cannot be written.
    """
    beside = path.with_name(f".{path.name}.new")
    try:
        save_file(
            {k: v.contiguous() for k, v in state.tensors.items()}, beside, {KEY: json.dumps(state.numbers), MARK: mark}
        )
        os.replace(beside, path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"The checkpoint cannot be written to {path}: {error}.") from error


def read(path: Path, mark: str = "") -> State | None:
    """The state in a file; None if there is no file.

    Raises
    ------
    schemas.errors.UserError
        If the file is no checkpoint, or one of another mark.
    """
    if not path.exists():
        return None
    try:
        with safe_open(str(path), framework="pt") as file:
            found = file.metadata() or {}
            numbers = json.loads(found[KEY])
            if found.get(MARK, "") != mark:
                raise UserError(
                    f"{path} is a checkpoint of another training: the table, the settings or the seed were others. "
                    "Remove it, or keep this training in another folder."
                )
            return State({name: file.get_tensor(name) for name in file.keys()}, numbers)  # noqa: SIM118 - no mapping
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise UserError(f"{path} is no checkpoint of a training: remove it to begin anew.") from error
