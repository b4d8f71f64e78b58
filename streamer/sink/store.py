"""Where a catalogue stands: a directory, or a place in an S3-compatible object store that answers as a directory does.

Delta's library takes its options of a store from the environment (``AWS_ENDPOINT_URL`` and so on), and so do we: then every
handle of a table, here and in processes that we start, has the same ones.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import cast

from schemas.errors import TroubleError, UserError
from streamer.sink.store_path import SCHEME, StorePath

_CONDITION = "AWS_CONDITIONAL_PUT"


def place(path: str | os.PathLike[str]) -> Path:
    """The place that `path` names: a ``Path``, or a ``StorePath``, which does what we ask of one, for ``s3://BUCKET/PATH``."""
    if isinstance(path, StorePath):
        return cast(Path, path)
    pure = PurePosixPath(path)
    if pure.parts[:1] == (SCHEME,):
        if len(pure.parts) < 3:
            raise UserError(f"{path}: a catalogue in an object store is named s3://BUCKET/PATH.")
        os.environ.setdefault(_CONDITION, "etag")  # commits never overwrite one another
        return cast(Path, StorePath(*pure.parts))
    return Path(path)


def use_options(options: Mapping[str, str]) -> None:
    """Set options of the store, as Delta's library names them, for this process and those that it starts.

    Raises
    ------
    UserError
        It is none of a store's options.
    """
    check_options(options)
    os.environ.update({key.upper(): value for key, value in options.items()})


def check_options(options: Mapping[str, str]) -> None:
    """Refuse what is no option of a store with a ``UserError``."""
    for key in options:
        if not key.upper().startswith("AWS_"):
            raise UserError(
                f"--storage {key}: options of a store begin with aws_, such as aws_endpoint_url, aws_region, aws_allow_http."
            )


def is_local(path: Path) -> bool:
    """Whether `path` is on a disk of this machine, so that there is something to fsync."""
    return not isinstance(path, StorePath)


def refuse_blind(root: Path) -> None:
    """Make sure that the store at `root` keeps what is there when two workers write one name: else commits overwrite each other.

    Raises
    ------
    UserError
        It ignores If-None-Match.
    TroubleError
        It cannot be reached, or does not let us write.
    """
    if not isinstance(root, StorePath):
        return
    if os.environ.get(_CONDITION) != "etag" or os.environ.get("AWS_S3_ALLOW_UNSAFE_RENAME", "false").lower() != "false":
        raise UserError(
            "aws_conditional_put must be etag, and aws_s3_allow_unsafe_rename false: else commits are lost."
        )
    import obstore
    from obstore.exceptions import AlreadyExistsError, BaseError

    store, key = (root / f".probe-{uuid.uuid4().hex}").there()
    try:
        obstore.put(store, key, b"first", mode="create")
        try:
            obstore.put(store, key, b"second", mode="create")
        except AlreadyExistsError:
            return
        finally:
            obstore.delete(store, key)
    except BaseError as error:
        raise TroubleError(f"The object store of {root} cannot be written: {str(error).splitlines()[0]}.") from error
    raise UserError(
        f"The object store of {root} ignores If-None-Match: two workers that commit at once would overwrite each other's "
        f"commits. Use one that honours it."
    )
