"""Dead letters as files: one per message with a manifest, or one table, for whoever has to mend the producer."""

import datetime as dt
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from schemas.catalogue import EXCEPTIONS
from schemas.errors import UserError
from streamer.catalogue import Catalogue
from streamer.dead_letters import Message, is_cut, message_of, payloads

MANIFEST = "manifest.json"
TABLES = (".parquet", ".arrow")

_BATCH = 64  # letters written at once


class Exported(NamedTuple):
    """What was written."""

    letters: int
    messages: int  # with a payload
    cut: int  # of them, those of which the ledger keeps only the beginning
    size: int  # bytes of all payloads


def export(catalogue: Catalogue, table: pa.Table, out: Path, now_ms: int) -> Exported:
    """Write the dead letters `table`, as ``streamer.dead_letters.letters`` gives them, with what is kept of their payloads.

    What appears under the name `out` is whole.

    Parameters
    ----------
    catalogue
        Where the payloads are.
    table
        Which letters.
    out
        A name that ends in .parquet or .arrow: one table with a row a letter; the payload of a message of which several rows
        were refused stands with one of them. Any other name: a directory with one file a message, its bytes as they were
        received, and manifest.json, which says of each letter why it was refused and which file is its message.
    now_ms
        The clock: ms since 1970 UTC.

    Raises
    ------
    UserError
        `out` exists already, or cannot be written; or there is no letter to write.
    """
    if not len(table):
        raise UserError("No dead letter fits: there is nothing to export.")
    if out.exists():
        raise UserError(f"{out} exists already: choose another name.")
    if not out.parent.is_dir():
        raise UserError(f"There is no directory {out.parent} to write {out.name} into.")
    write: Callable[[Catalogue, pa.Table, Path, int], Exported] = _table if out.suffix in TABLES else _directory
    part = out.with_name(f".{out.stem}.{uuid.uuid4().hex[:8]}.part{out.suffix}")
    try:
        done = write(catalogue, table, part, now_ms)
        os.rename(part, out)
    except OSError as error:
        raise UserError(f"{out} cannot be written ({error.strerror or error}): choose another place.") from None
    finally:
        shutil.rmtree(part, ignore_errors=True) if part.is_dir() else part.unlink(missing_ok=True)
    return done


def _directory(catalogue: Catalogue, table: pa.Table, folder: Path, now_ms: int) -> Exported:
    records = table.sort_by("number").to_pylist()
    first = {message_of(record): record for record in reversed(records)}
    held: dict[Message, dict[str, Any]] = {}
    folder.mkdir()
    for key, payload in payloads(catalogue, first):
        record = first[key]
        name = f"{record['number']}-{record['reason']}-p{record['kafka_partition']}-o{record['offset_start']}.bin"
        (folder / name).write_bytes(payload)
        held[key] = {
            "file": name,
            "bytes": len(payload),
            "cut": is_cut(payload, record["payload_size"]),
            "sha256": hashlib.sha256(payload).hexdigest(),
        }
    nothing = {"file": None, "bytes": 0, "cut": False, "sha256": None}
    told = {
        "catalogue": catalogue.root.name,
        "written": dt.datetime.fromtimestamp(now_ms / 1000, dt.UTC).isoformat(),
        "letters": [record | held.get(message_of(record), nothing) for record in records],
    }
    text = json.dumps(told, indent=1, default=lambda time: time.isoformat(), ensure_ascii=False)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")
    files = held.values()
    return Exported(len(records), len(held), sum(f["cut"] for f in files), sum(f["bytes"] for f in files))


def _table(catalogue: Catalogue, table: pa.Table, path: Path, now_ms: int) -> Exported:
    import pyarrow.ipc
    import pyarrow.parquet as pq

    schema = pa.schema([*table.schema, EXCEPTIONS.field("payload")])
    records = table.to_pylist()
    first = {message_of(record): k for k, record in reversed(list(enumerate(records)))}
    left = set(range(len(records)))
    messages = cut = size = 0
    if path.suffix == ".parquet":
        writer: Any = pq.ParquetWriter(path, schema, compression="zstd")
    else:
        writer = pyarrow.ipc.new_file(path, schema)

    def write(where: list[int], payloads: list[bytes | None]) -> None:
        rows = table.take(pa.array(where, pa.int64()))
        writer.write_table(rows.append_column(schema.field("payload"), pa.array(payloads, pa.binary())).cast(schema))

    with writer:
        held: dict[int, bytes] = {}
        for key, payload in payloads(catalogue, first):
            k = first[key]
            held[k] = payload
            messages, size = messages + 1, size + len(payload)
            cut += is_cut(payload, records[k]["payload_size"])
            if len(held) == _BATCH:
                write(list(held), list(held.values()))
                left -= set(held)
                held = {}
        left -= set(held)
        write([*held, *sorted(left)], [*held.values(), *[None] * len(left)])
    return Exported(len(records), messages, cut, size)
