"""Tables as Arrow datasets: read by Arrow's own threads, not through Python, where they are on a disk."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.fs
from deltalake import DeltaTable, write_deltalake

from streamer.sink.datasets import dataset, whole

LEAVES = """
import sys
from pathlib import Path
from deltalake import DeltaTable
from streamer.sink.datasets import dataset

folder = Path(sys.argv[1])
held = dataset(DeltaTable(str(folder)), folder)
next(iter(held.scanner(batch_size=8192, batch_readahead=2, fragment_readahead=1).to_batches()))
sys.exit(75)
"""


WAITS = """
import atexit, sys, threading
from deltalake import DeltaTable
from streamer.cli.main import leave

held = DeltaTable(sys.argv[1]).to_pyarrow_dataset()  # as tables in object stores are read
next(iter(held.scanner(batch_size=8192, batch_readahead=2, fragment_readahead=1).to_batches()))
threading.Thread(target=threading.Event().wait).start()
atexit.register(lambda: sys.stdout.write(" tidied"))
sys.stdout.write("said")
leave(3)
"""


def made(folder: Path, files: int = 6, rows: int = 30_000) -> DeltaTable:
    for k in range(files):
        values = np.random.default_rng(k).random((rows, 60), np.float32)
        pdf = pa.ListArray.from_arrays(np.arange(rows + 1, dtype=np.int32) * 60, values.ravel())
        write_deltalake(str(folder), pa.table({"pdf": pdf, "z": values[:, 0]}), mode="append")
    return DeltaTable(str(folder))


def test_a_process_may_leave_a_scan_in_the_middle(tmp_path: Path) -> None:
    """Through Delta's file system this one hangs or aborts in the end."""
    made(tmp_path / "t")
    done = subprocess.run([sys.executable, "-c", LEAVES, str(tmp_path / "t")], timeout=60, capture_output=True)
    assert (done.returncode, done.stderr) == (75, b"")


def test_a_command_ends_with_its_code_whatever_threads_still_do(tmp_path: Path) -> None:
    """By the interpreter's own end this one waits for ever; without the waiting thread it aborts."""
    made(tmp_path / "t")
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", WAITS, str(tmp_path / "t")], timeout=60, capture_output=True)
        assert (done.returncode, done.stdout, done.stderr) == (3, b"said tidied", b"")


def test_it_holds_what_the_table_holds(tmp_path: Path) -> None:
    table = made(tmp_path / "t", files=3, rows=10)
    held = dataset(table, tmp_path / "t")
    assert held.to_table().equals(table.to_pyarrow_dataset().to_table())
    assert whole(table, tmp_path / "t", columns=["z"]).equals(table.to_pyarrow_table(columns=["z"]))
    assert isinstance(held.filesystem, pyarrow.fs.SubTreeFileSystem)
    assert not isinstance(held.filesystem.base_fs, pyarrow.fs.PyFileSystem)


def test_nobody_reads_one_otherwise() -> None:
    ways = ("to_pyarrow_dataset(", "to_pyarrow_table(", ".to_pandas(")
    here = Path(__file__).parents[1]
    others = [path for path in (here / "streamer").rglob("*.py") if any(way in path.read_text() for way in ways)]
    assert others == [here / "streamer" / "sink" / "datasets.py"]
