"""The fast way through a stretch of plain fields gives what the operations give one by one: values, statuses, sentences."""

import random

import numpy as np
import pytest

from benchmarks.avro_fuzz import Subject, mutated, subjects
from schemas import avro
from schemas.avro import instructions as op
from schemas.avro import stretches
from schemas.avro.status import Status

PLAIN = {
    "type": "record",
    "name": "plain",
    "fields": [
        {
            "name": f"{kind}{number}{suffix}",
            "type": ["null", kind] if null == 1 else [kind, "null"] if null == 2 else kind,
        }
        for number in range(2)
        for kind in ("boolean", "int", "long", "float", "double", "bytes", "string")
        for null, suffix in enumerate(("", "_or_null", "_or_null_last"))
    ],
}
KINDS = {
    "boolean": "bool",
    "int": "i8",
    "long": "i8",
    "float": "f8",
    "double": "f4",
    "bytes": "bytes",
    "string": "string",
}


def plain() -> Subject:
    from benchmarks.avro_fuzz import random_value
    from benchmarks.avro_values import encode

    rng = random.Random(3)
    wants = [avro.Want(f["name"], KINDS[f["name"].split("_")[0][:-1]]) for f in PLAIN["fields"]]  # type: ignore[index,arg-type]
    good = [encode(PLAIN, random_value(PLAIN, {}, rng), {}) for _ in range(40)]
    return Subject(PLAIN, {}, wants, good)


def programs(subject: Subject, wants: list[avro.Want], monkeypatch: pytest.MonkeyPatch) -> list[avro.Program]:
    """With stretches, and without."""
    with_them = avro.compile_schema(subject.schema, wants)
    monkeypatch.setattr(stretches, "LEAST", 1 << 30)
    without = avro.compile_schema(subject.schema, wants)
    monkeypatch.undo()
    assert op.STRETCH in with_them._code[:, 0]
    assert op.STRETCH not in without._code[:, 0]
    return [with_them, without]


def flatten(column: avro.program.Column) -> list[np.ndarray]:
    if isinstance(column, avro.Ragged):
        return [column.offsets, *flatten(column.values)]
    return [column.offset, column.length] if isinstance(column, avro.Spans) else [column]


@pytest.mark.parametrize("which", range(3))
@pytest.mark.parametrize("part", [slice(None), slice(None, None, 3), slice(1, None, 2), slice(-2, None)])
def test_stretches_change_nothing(which: int, part: slice, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(which)
    subject = [*subjects(which)[:2], plain()][which]
    messages = subject.messages + [mutated(subject.messages, rng) for _ in range(4000)]
    memory = avro.buffers(messages)
    two = programs(subject, subject.wants[part], monkeypatch)
    fast, slow = (program.run(memory, 0) for program in two)
    assert (fast.status == slow.status).all()
    assert (fast.byte == slow.byte).all()
    assert 0 < (fast.status == Status.GOOD).sum() < len(messages)
    for path, column in fast.columns.items():
        for one, other in zip(flatten(column), flatten(slow.columns[path]), strict=True):
            np.testing.assert_array_equal(one.view(np.uint8), other.view(np.uint8), err_msg=path)
    for i in np.flatnonzero(fast.status)[:300].tolist():
        said = [p.sentence(int(d.status[i]), int(d.where[i]), 0, 0) for p, d in zip(two, (fast, slow), strict=True)]
        assert said[0] == said[1]
