"""What a wanted path means in a writer's schema, by Avro's rules of resolution: aliases, promotions, defaults, unions."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np

from schemas.avro.schema import Node, SchemaError

REQUIRED: Any = object()  # the default of a field that a writer must have
NULL_INTEGER = -(1 << 63)
MOST_WAYS = 100_000  # through unions of unions, on the search for a path: more is no schema but an attack

Kind = Literal["f4", "f8", "i8", "bool", "enum", "present", "string", "bytes"]
NUMBERS = frozenset({"int", "long", "float", "double"})
SUITS: dict[str, frozenset[str]] = {  # a wanted kind: the writer's types it is read from
    "f4": NUMBERS,
    "f8": NUMBERS,
    "i8": frozenset({"int", "long"}),
    "bool": frozenset({"boolean"}),
    "enum": frozenset({"enum"}),
    "string": frozenset({"string", "bytes"}),
    "bytes": frozenset({"bytes", "string", "fixed"}),
}
NULL: dict[str, Any] = {"f4": np.nan, "f8": np.nan, "i8": NULL_INTEGER, "bool": -1, "enum": -1, "present": 0}
_Shape = tuple[int, ...]


class Want(NamedTuple):
    """A field that is wanted.

    Attributes
    ----------
    path
        Names from the record down, with dots between. Where it passes an array it gives the array's items.
    kind
        What it is wanted as: "f4", "f8", "i8", "bool", "string", "bytes"; "enum", its place in `symbols`; "present", 1 where
        it is not null. Any number of the writer's will do for "f4" and "f8", rounded where it must be.
    default
        What stands for it where the writer's schema lacks it; None = null; a list = an empty array.
    aliases
        Further paths, under which other writers have it; the first that is there counts.
    symbols
        The reader's, of an enum, at most 127; others are -1.
    """

    path: str
    kind: Kind
    default: Any = REQUIRED
    aliases: tuple[str, ...] = ()
    symbols: tuple[str, ...] = ()


class LacksField(ValueError):
    """The writer's schema lacks a field that is needed, or has it as something else; the sentence names it."""


@dataclass(eq=False)
class Sink:
    """A column, and where in the schema its values come from.

    Attributes
    ----------
    want
        What it is for; other wants may share it.
    shape
        How many names of the path stand before each array that it passes: () = one value a record.
    dimension
        Whose items its values are: 0 = the records', else a number of `Resolved.dimensions`.
    """

    want: Want
    shape: _Shape
    dimension: int


@dataclass(eq=False)
class Trie:
    """The wanted paths from one place of the schema on: `value` and `present` end here, the others go on below."""

    value: Sink | None = None
    present: Sink | None = None
    below: dict[str, "Trie"] = field(default_factory=dict)

    def sinks(self) -> Iterator[Sink]:
        """All of them, here and below."""
        if self.value is not None:
            yield self.value
        if self.present is not None:
            yield self.present
        for trie in self.below.values():
            yield from trie.sinks()


@dataclass(eq=False)
class Resolved:
    """Where in a writer's schema the wanted fields are.

    Attributes
    ----------
    trie
        The paths that are read.
    sinks
        The column of each want that is read, by its path.
    absent
        Those that the schema knows nothing of, with their default.
    dimensions
        The arrays whose items are read: (path, shape), 1 and on; the first entry stands for the records.
    parents
        Of each, the dimension whose items hold the array.
    """

    trie: Trie = field(default_factory=Trie)
    sinks: dict[str, Sink] = field(default_factory=dict)
    absent: dict[str, Want] = field(default_factory=dict)
    dimensions: list[tuple[tuple[str, ...], _Shape]] = field(default_factory=lambda: [((), ())])
    parents: list[int] = field(default_factory=lambda: [-1])

    def dimension(self, names: tuple[str, ...], shape: _Shape) -> int:
        """The number of the innermost array that `names` pass; it gets one if it is new."""
        number = 0
        for k, at in enumerate(shape):
            key = (names[:at], shape[: k + 1])
            if key not in self.dimensions:
                self.dimensions.append(key)
                self.parents.append(number)
            number = self.dimensions.index(key)
        return number


def resolve(root: Node, wants: Sequence[Want]) -> Resolved:
    """Find `wants` in the writer's schema.

    Raises
    ------
    LacksField
        A field without default is not there, or is nothing that it can be read from.
    ValueError
        Two wants of one path, or of one field as different things.
    """
    found = Resolved()
    for want in wants:
        if want.path in found.sinks or want.path in found.absent:
            raise ValueError(f"{want.path} is wanted twice")
        if len(want.symbols) > 127:
            raise ValueError(f"{want.path} is wanted with more than 127 symbols")
        _place(root, want, found)
    return found


def _place(root: Node, want: Want, found: Resolved) -> None:
    search = _Search()
    for path in (want.path, *want.aliases):
        names = tuple(path.split("."))
        ends = list(search.ends(root, names, 0, (), want.kind == "present"))
        if not ends:
            continue
        fit = [end for end in ends if want.kind == "present" or end[1].kind in SUITS[want.kind]]
        fit = fit or [end for end in ends if end[1].kind == "null"]
        if not fit:
            kinds = " or ".join(sorted({end[1].kind for end in ends}))
            raise LacksField(f"the writer's field {path} is {kinds}, which gives no {want.kind}")
        _add(found, want, names, fit[0][0])
        return
    if want.default is REQUIRED:
        raise LacksField(f"the writer's schema lacks the field {want.path}")
    names = tuple(want.path.split("."))
    for k in range(len(names) - 1, 0, -1):  # an array whose items lack it has a default in each
        shapes = [shape for shape, node in search.ends(root, names[:k], 0, (), False) if node.kind == "record"]
        if shapes and shapes[0]:
            _add(found, want, names, shapes[0])
            return
    found.absent[want.path] = want


def _add(found: Resolved, want: Want, names: tuple[str, ...], shape: _Shape) -> None:
    trie = found.trie
    for name in names:
        trie = trie.below.setdefault(name, Trie())
    there = trie.present if want.kind == "present" else trie.value
    if there is None:
        there = Sink(want, shape, found.dimension(names, shape))
        if want.kind == "present":
            trie.present = there
        else:
            trie.value = there
    elif (there.want.kind, there.want.symbols) != (want.kind, want.symbols):
        raise ValueError(f"{want.path} and {there.want.path} are one field of the writer's, wanted as different things")
    found.sinks[want.path] = there


class _Search:
    def __init__(self) -> None:
        self.ways = 0

    def ends(
        self, node: Node, names: tuple[str, ...], at: int, shape: _Shape, outside: bool
    ) -> Iterator[tuple[_Shape, Node]]:
        """(shape, type) of all that `names` lead to, through arrays and unions; `outside` stops before a last array."""
        self.ways += 1
        if self.ways > MOST_WAYS:
            raise SchemaError(f"there are more than {MOST_WAYS} ways to {'.'.join(names)}")
        if node.kind == "array" and not (outside and at == len(names)):
            yield from self.ends(node.branches[0], names, at, (*shape, at), outside)
        elif node.kind == "union":
            for branch in node.branches:
                yield from self.ends(branch, names, at, shape, outside)
        elif at == len(names):
            yield shape, node
        elif node.kind == "record":
            inner = next((inner for name, inner in node.fields if name == names[at]), None)
            if inner is not None:
                yield from self.ends(inner, names, at + 1, shape, outside)
