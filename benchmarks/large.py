"""What a large catalogue costs whoever looks after it: a look at an object, compaction, proof, dead letters, withdrawal.

Each command runs in a process of its own, as a person starts it: seconds from its start to its end, CPU, the most memory.
The catalogue is also compacted in the order of the sky, for the choice of the order to be a measured one.
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import healpix
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from benchmarks import cost
from benchmarks.large_data import SCHEMA_ID, Large, build
from benchmarks.report import Result
from consumers.rows import HEALPIX_ORDER
from streamer.care import compaction
from streamer.catalogue import Catalogue, open_catalogue

ROWS = 10_000_000
LOOKS = 10
ORDER = 10  # of the pixel that a look at a position takes: 3.4 arc minutes
SKY = ("_healpix_29", *compaction.ORDER)


def run(quick: bool, rows: int = ROWS) -> Iterator[Result]:
    """All cases; `quick` makes do with 400,000 rows. It takes 700 bytes of disk a row."""
    with tempfile.TemporaryDirectory(prefix="slipher-large-") as folder:
        began = time.process_time()
        made = build(Path(folder), 400_000 if quick else rows, _tell)
        yield _case("made: rows and commits", (time.process_time() - began) / made.rows * 1e6, "us/row of CPU")
        yield from measure(made)


def measure(made: Large) -> Iterator[Result]:
    """All that is asked of a catalogue that is just made."""
    by_sky = made._replace(root=made.root.with_name("sky"))
    _link(made.root, by_sky.root)
    yield from _shown(made, "not compacted: show", made.object_id[:3])
    for night in made.nights:
        spent = cost.of("catalog", "compact", made.root, "--night", night)
        yield from _costs(f"compact {night}", spent, made.rows / len(made.nights))
    yield from _shown(made, "show", made.object_id[:LOOKS])
    for night in made.nights:
        _compact_by_sky(by_sky.root, night, made.name)
    for name, where in (("object", made), ("sky", by_sky)):
        yield from _looks(where, f"sorted by {name}")
    yield from _costs("verify", cost.of("catalog", "verify", made.root), made.rows)
    yield from _costs("verify --checksums", cost.of("catalog", "verify", made.root, "--checksums"), made.rows)
    yield from _costs(f"list {made.letters:,} dead letters", cost.of("dead-letters", "list", made.root), made.rows)
    mended = ("--model", made.model, "--schema", f"{SCHEMA_ID}={made.schema}")
    yield from _costs("retry all of them", cost.of("dead-letters", "retry", made.root, *mended), made.letters)
    withdrawn = (
        "catalog",
        "withdraw",
        made.root,
        "--night",
        made.nights[0],
        "--model",
        made.name,
        "--why",
        "benchmark",
    )
    yield from _costs("withdraw a night", cost.of(*withdrawn), made.rows / len(made.nights))
    yield from _costs("verify again", cost.of("catalog", "verify", made.root), made.rows)


def _shown(made: Large, name: str, objects: list[str]) -> Iterator[Result]:
    """``slipher catalog show`` of each, in a process of its own."""
    spent = [cost.of("catalog", "show", made.root, one) for one in objects]
    seconds = [one.seconds for one in spent]
    yield _case(f"{name}: median of {len(objects)}", statistics.median(seconds), "s")
    yield _case(f"{name}: worst", max(seconds), "s")
    yield _case(f"{name}: CPU", statistics.median(one.cpu for one in spent), "s")
    yield from _memory(name, spent[0])


def _costs(name: str, spent: cost.Cost, rows: float) -> Iterator[Result]:
    yield _case(name, spent.seconds, "s")
    yield _case(f"{name}: CPU", spent.cpu / rows * 1e6, "us/row")
    yield from _memory(name, spent)


def _memory(name: str, spent: cost.Cost) -> Iterator[Result]:
    if spent.memory is not None:
        yield _case(f"{name}: memory", spent.memory, "MB")


def _case(name: str, value: float, unit: str) -> Result:
    return Result(name, value, unit, higher_is_better=False)


# -- the other order -------------------------------------------------------------------------------------------------------


def _compact_by_sky(root: Path, night: str, model: str) -> None:
    ours, compaction.ORDER = compaction.ORDER, SKY
    try:
        compaction.compact(root, night, model)
    finally:
        compaction.ORDER = ours


def _looks(made: Large, name: str) -> Iterator[Result]:
    """CPU of a look by object and one by position: both orders are read in the same way, the keys first, then what has them."""
    catalogue = open_catalogue(made.root)
    wide = 2 * (HEALPIX_ORDER - ORDER)
    pixels = healpix.ang2pix(1 << ORDER, made.ra, made.dec, lonlat=True, nest=True)
    objects = [pc.field("object_id") == one for one in made.object_id[:LOOKS]]
    near = [
        (pc.field("_healpix_29") >= p << wide) & (pc.field("_healpix_29") < (p + 1) << wide) for p in pixels.tolist()
    ]
    for what, wanted in (("an object", objects), ("a position", near[:LOOKS])):
        spent, groups = [], []
        for one in wanted:
            began = time.process_time()
            _, read = _found(catalogue, one)
            spent.append(time.process_time() - began)
            groups.append(read)
        yield _case(f"{name}: CPU of {what}", statistics.median(spent), "s")
        yield _case(f"{name}: row groups read whole for {what}", statistics.median(groups), "")


def _found(catalogue: Catalogue, wanted: pc.Expression) -> tuple[pa.Table, int]:
    """Rows that fit, and how many row groups were read for them."""
    rows = catalogue.dataset("rows")
    assert isinstance(rows, ds.FileSystemDataset)
    pieces = [
        part for fragment in rows.get_fragments(wanted) for part in fragment.split_by_row_group(wanted, rows.schema)
    ]
    held = [part for part in pieces if part.scanner(rows.schema, filter=wanted).count_rows()]
    tables = [part.to_table(schema=rows.schema, filter=wanted) for part in held]
    return pa.concat_tables([rows.schema.empty_table(), *tables]), len(held)


def _link(root: Path, other: Path) -> None:
    """`root` again at `other`, at no cost: nobody changes a file of a table."""
    for path in root.rglob("*"):
        if path.is_file():
            there = other / path.relative_to(root)
            there.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, there)


def _tell(what: str, share: float) -> None:
    sys.stderr.write(f"\r{what} {share:.0%}" + "\n" * (share >= 1))
