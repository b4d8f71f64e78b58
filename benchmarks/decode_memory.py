"""Memory that decoding takes, in bytes for each byte of the messages: of alerts, and of messages made to take much."""

import json
import tracemalloc
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from benchmarks.avro_values import zigzag
from benchmarks.report import Result
from schemas import avro
from schemas.avro import Want

BYTES = 4_000_000  # of hostile messages
BOMB = 400_000_000  # zeros in a container of 400 kB


def of_messages(name: str, read: Callable[[list[bytes]], Any], messages: Sequence[bytes]) -> Result:
    """The most that Python and NumPy hold at once while `read` reads `messages`, with what it returns, for each byte of them."""
    some = list(messages)
    read(some)
    taken = _most(lambda: read(some))
    return Result(f"{name}: memory", taken / sum(map(len, some)), "bytes/byte", higher_is_better=False)


def hostile() -> list[Result]:
    """Messages that say they are large, or hold as many items as bytes allow, or grow when they are decompressed."""
    numbers: Any = {"type": "record", "name": "R", "fields": [{"name": "x", "type": {"type": "array", "items": "int"}}]}
    texts: Any = {
        "type": "record",
        "name": "R",
        "fields": [{"name": "x", "type": {"type": "array", "items": "string"}}],
    }
    full = zigzag(BYTES) + bytes(BYTES) + b"\x00"  # every byte an item: a number, or an empty text
    claims = [zigzag(1 << 40) + bytes(1000)] * (BYTES // 1000)  # far more items than bytes
    results = []
    for name, schema, kind, messages in (
        ("an array with an integer in each byte", numbers, "i8", [full]),
        ("an array with a text in each byte", texts, "string", [full]),
        ("messages that claim 2^40 items", numbers, "i8", claims),
    ):
        program = avro.compile_schema(schema, [Want("x", kind)])  # type: ignore[arg-type]
        results.append(of_messages(name, partial(_run, program), messages))
    bomb = _bomb(numbers)
    containers = avro.Containers([Want("x", "i8")], 64 << 20, 1 << 20)

    def refused(messages: list[bytes]) -> None:
        records, why = containers.read(messages)
        if records or not why:
            raise RuntimeError("a bomb was read")

    results.append(of_messages(f"a container of {len(bomb) // 1000} kB that unpacks to 400 MB", refused, [bomb]))
    return results


def _run(program: avro.Program, messages: list[bytes]) -> avro.Decoded:
    return program.run(avro.buffers(messages), 0)


def _bomb(schema: Any) -> bytes:
    deflater = zlib.compressobj(9, wbits=-15)
    data = b"".join(deflater.compress(bytes(1_000_000)) for _ in range(BOMB // 1_000_000)) + deflater.flush()
    text = json.dumps(schema).encode()
    meta = b"\x04" + b"".join(zigzag(len(part)) + part for part in (b"avro.schema", text, b"avro.codec", b"deflate"))
    sync = bytes(16)
    return b"Obj\x01" + meta + b"\x00" + sync + zigzag(1) + zigzag(len(data)) + data + sync


def _most(work: Callable[[], Any]) -> int:
    tracemalloc.start()
    try:
        kept = work()
        most = tracemalloc.get_traced_memory()[1]
        del kept
        return most
    finally:
        tracemalloc.stop()
