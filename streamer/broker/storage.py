"""Formats a broker's data directory as Kafka's own tool does, without paying 2 s of Java for each.

The features of a cluster (transactions, KIP-848 groups) stand in a checkpoint that only StorageTool writes. It holds
nothing of one cluster, so it is made once for each set of jars, kept in the cache, and copied into each new directory
next to a fresh ``meta.properties``. Without it a KIP-848 consumer ends with a fatal error.
"""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from schemas.errors import TroubleError
from streamer.broker.cache import cache_dir, locked
from streamer.broker.jars import read_lock
from streamer.broker.runtime import Runtime
from streamer.broker.settings import BrokerSettings, free_ports, log4j_properties, random_id, server_properties

_CHECKPOINT = Path("__cluster_metadata-0", "00000000000000000000-0000000000.checkpoint")
_META = "meta.properties"
_TIMEOUT_S = 120.0  # 2 s on an idle machine


def is_formatted(data: Path) -> bool:
    """Whether a broker can start on this directory."""
    return (data / _META).exists()


def format_data(data: Path, node: int, cluster: str | None, runtime: Runtime) -> None:
    """Make a formatted data directory. It appears in one step, so that an interruption leaves none.

    Parameters
    ----------
    data
        The directory; must not exist, or be empty.
    node
        The node's id.
    cluster
        The cluster's id; a random one if None.
    runtime
        To run StorageTool, if it has not been run for these jars.
    """
    checkpoint = _checkpoint(runtime)
    data.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=".format-", dir=data.parent))
    try:
        (part / _CHECKPOINT).parent.mkdir()
        shutil.copyfile(checkpoint, part / _CHECKPOINT)
        lines = ("version=1", f"cluster.id={cluster or random_id()}", f"node.id={node}", f"directory.id={random_id()}")
        (part / _META).write_text("".join(f"{line}\n" for line in lines))
        part.chmod(0o755)
        os.rename(part, data)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _checkpoint(runtime: Runtime) -> Path:
    lock = read_lock()
    path = cache_dir() / "kafka" / f"{lock.kafka}-{lock.digest}.checkpoint"
    if not path.exists():
        with locked(path.with_suffix(".lock")):
            if not path.exists():
                _make_checkpoint(path, runtime)
    return path


def _make_checkpoint(path: Path, runtime: Runtime) -> None:
    with tempfile.TemporaryDirectory(prefix="slipher-format-") as folder:
        home = Path(folder)
        properties, log4j, data = home / "server.properties", home / "log4j2.properties", home / "data"
        port, controller_port = free_ports(2)
        properties.write_text(server_properties(BrokerSettings(), port, controller_port, data))
        log4j.write_text(log4j_properties("WARN"))
        command = runtime.command(
            "kafka.tools.StorageTool",
            *("format", "--cluster-id", random_id(), "--config", str(properties)),
            heap="128m",
            log4j=log4j,
        )
        try:
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT_S)
        except subprocess.TimeoutExpired as error:
            raise TroubleError(
                f"Kafka's StorageTool did not end within {_TIMEOUT_S:.0f} s; is this machine very busy?"
            ) from error
        if done.returncode != 0 or not (data / _CHECKPOINT).exists():
            said = (done.stderr.strip() or done.stdout.strip())[-1000:]
            raise TroubleError(f"Kafka's StorageTool ended with {done.returncode} and said:\n{said}")
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        shutil.copyfile(data / _CHECKPOINT, part)
        os.replace(part, path)
