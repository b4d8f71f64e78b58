"""A trained model in one file: tensors and a model card, in the safetensors container, which cannot run code when opened.

The card is canonical JSON under the one metadata key ``slipher``. Its ``sha256`` is taken over the rest of the card and over
every tensor's name, type, shape and bytes: it names the content, wherever the file lies. Same data, seed and libraries give
the same hash.
"""

import contextlib
import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from schemas.errors import UserError

FORMAT = 1  # version of card and tensors; a reader refuses what is newer than itself
KEY = "slipher"


class Bundle(NamedTuple):
    """A model card (JSON values) with its `sha256`, and the tensors by name. Neither is changed once made: see `seal`."""

    card: dict[str, Any]
    tensors: dict[str, np.ndarray]


def seal(card: dict[str, Any], tensors: dict[str, np.ndarray]) -> Bundle:
    """A bundle of `card` with its hash.

    Raises
    ------
    ValueError
        If the card holds a number that JSON cannot say.
    """
    plain = json.loads(canonical({**card, "format": FORMAT}))
    contiguous = {name: np.ascontiguousarray(tensors[name]) for name in sorted(tensors)}
    plain["sha256"] = content_hash(plain, contiguous)
    return Bundle(plain, contiguous)


def canonical(card: dict[str, Any]) -> str:
    """JSON with sorted keys and no spaces: the same card is the same text."""
    return json.dumps(card, sort_keys=True, separators=(",", ":"), allow_nan=False)


def content_hash(card: dict[str, Any], tensors: dict[str, np.ndarray]) -> str:
    """SHA-256 over the card without its ``sha256`` and over every tensor, 64 hexadecimal digits."""
    digest = hashlib.sha256(canonical({key: value for key, value in card.items() if key != "sha256"}).encode())
    for name in sorted(tensors):
        tensor = np.ascontiguousarray(tensors[name])
        digest.update(f"\0{name}\0{tensor.dtype.str}\0{tensor.shape}\0".encode())
        digest.update(tensor.data.cast("B") if tensor.size else b"")
    return digest.hexdigest()


def write(bundle: Bundle, path: str | Path) -> None:
    """Write the file whole or not at all.

    Raises
    ------
    schemas.errors.UserError
        If the place cannot be written.
    """
    target = Path(path)
    data = save(bundle.tensors, metadata={KEY: canonical(bundle.card)})
    name = None
    try:
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as file:
            name = file.name
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)  # a temporary file is private: the bundle is as readable as any new file
        os.replace(name, target)
    except OSError as error:
        raise UserError(f"The model cannot be written to {target}: {error.strerror}.") from error
    finally:
        if name is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)


def read(path: str | Path) -> Bundle:
    """Read and verify a bundle.

    Raises
    ------
    schemas.errors.UserError
        If the file is missing, no bundle, from a newer format, truncated, or changed since it was sealed.
    """
    file = Path(path)
    if not file.is_file():
        raise UserError(f"There is no model bundle {file}: train one with `slipher train`.")
    try:
        with safe_open(str(file), framework="np") as container:
            metadata = container.metadata() or {}
            tensors = {name: container.get_tensor(name) for name in sorted(container.keys())} if KEY in metadata else {}
    except (SafetensorError, OSError, TypeError, ValueError) as error:
        raise UserError(
            f"{file} is no model bundle, or it is truncated: it does not open as safetensors ({error})."
        ) from error
    if KEY not in metadata:
        raise UserError(f"{file} is a safetensors file of something else: it holds no slipher model card.")
    try:
        card = json.loads(metadata[KEY])
        version, claimed = card["format"], card["sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} is damaged: its model card cannot be read.") from error
    if not isinstance(version, int) or version > FORMAT:
        raise UserError(
            f"{file} has bundle format {version}, this version of slipher reads up to {FORMAT}: update slipher."
        )
    if content_hash(card, tensors) != claimed:
        raise UserError(f"{file} is damaged: its content does not match its hash. Fetch it or train it again.")
    return Bundle(card, tensors)
