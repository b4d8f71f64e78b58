"""What a command of slipher costs in a process of its own: seconds, CPU, the most memory that it ever had."""

import atexit
import json
import subprocess
import sys
import time
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import NamedTuple


class Cost(NamedTuple):
    """Of one run.

    Attributes
    ----------
    seconds, cpu
        From its start to its end, and of a core.
    memory
        The most of it that was resident, MB; None where the system does not say.
    said
        What it printed.
    """

    seconds: float
    cpu: float
    memory: float | None
    said: str


def of(*words: object) -> Cost:
    """Run ``slipher`` with `words`.

    Raises
    ------
    RuntimeError
        It did not end well; with what it said.
    """
    with NamedTemporaryFile(prefix="slipher-cost-") as told:
        command = [sys.executable, "-m", "benchmarks.cost", told.name, *map(str, words)]
        began = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True)
        seconds = time.perf_counter() - began
        if done.returncode:
            raise RuntimeError(f"slipher {' '.join(map(str, words))}: {done.stderr or done.stdout}")
        cpu, memory = json.loads(Path(told.name).read_bytes())
        return Cost(seconds, cpu, memory, done.stdout)


def _tell(path: Path) -> None:
    # Not what the parent of a process is told of its memory: that counts what the parent had when they parted.
    status = Path("/proc/self/status")
    high = (
        [line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        if status.exists()
        else []
    )
    path.write_text(json.dumps([time.process_time(), int(high[0]) / 1024 if high else None]))


if __name__ == "__main__":
    atexit.register(_tell, Path(sys.argv.pop(1)))
    sys.argv[0] = "slipher"
    from streamer.cli.main import main

    main()
