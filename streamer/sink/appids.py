"""The application ids of a Delta table, read from its log: one small read instead of a call per id.

``DeltaTable.transaction_version`` costs milliseconds a call and a worker needs hundreds of ids a commit; the checkpoint's
``txn`` column and the few JSON entries after it hold them all.
"""

import json
import os
from pathlib import Path

import pyarrow.parquet as pq
from deltalake import DeltaTable

from streamer.sink.store import place


def app_id(processing_id: str, topic_id: str, partition: int, what: str) -> str:
    """The id of one number of one partition: ``what`` is offset, epoch, start or seq, or that of a replay."""
    return f"slipher/{processing_id}/{topic_id}/{partition}/{what}"


class AppIds:
    """The ids of `table` as of the version of its handle: never newer, since the handle is the base of the next commit.

    Parameters
    ----------
    table
        The handle that commits go through. ``refresh`` advances it.
    folder
        The table's directory.
    """

    def __init__(self, table: DeltaTable, folder: Path) -> None:
        self.table = table
        self.versions: dict[str, int] = {}
        self._log = folder / "_delta_log"
        self._at = -1

    def refresh(self) -> None:
        """Advance the handle to the head of the log and read the ids up to exactly its version."""
        self.table.update_incremental()
        while True:
            try:
                if self._at < 0:
                    self._read_checkpoint()
                while self._at < self.table.version():
                    self._read_entry(self._at + 1)
                return
            except (
                FileNotFoundError
            ):  # log entries below a checkpoint were cleaned up while we slept: start from the checkpoint
                if self._at < 0 and not (self._log / "_last_checkpoint").exists():
                    raise
                self._at, self.versions = -1, {}
                self.table.update_incremental()

    def get(self, app: str) -> int | None:
        """Version of `app`, or None where it was never set."""
        return self.versions.get(app)

    def _read_checkpoint(self) -> None:
        pointer = self._log / "_last_checkpoint"
        if not pointer.exists():
            return
        version = json.loads(pointer.read_text())["version"]
        if (
            version > self.table.version()
        ):  # newer than the handle: the JSON entries below it still exist, or refresh again
            raise FileNotFoundError(pointer)
        with (self._log / f"{version:020d}.checkpoint.parquet").open("rb") as checkpoint:
            transactions = pq.read_table(checkpoint, columns=["txn"])["txn"]
        self.versions = {t["appId"]: t["version"] for t in transactions.drop_null().to_pylist()}
        self._at = version

    def _read_entry(self, version: int) -> None:
        with (self._log / f"{version:020d}.json").open(encoding="utf-8") as entry:
            for line in entry:
                if line.startswith('{"txn"'):
                    transaction = json.loads(line)["txn"]
                    self.versions[transaction["appId"]] = transaction["version"]
        self._at = version


def read_app_ids(folder: str | os.PathLike[str]) -> dict[str, int]:
    """All application ids of the table in `folder`, as of now."""
    folder = place(folder)
    ids = AppIds(DeltaTable(str(folder)), folder)
    ids.refresh()
    return ids.versions
