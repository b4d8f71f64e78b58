"""Starts a child process in a session of its own; an owned one does not outlive its owner."""

import os
import queue
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO

_LEASH = Path(__file__).with_name("leash.py")


def spawn(
    command: list[str], out: IO[bytes], folder: Path, last_signal: signal.Signals | None
) -> subprocess.Popen[bytes]:
    """Start a command, its output going to a file.

    Parameters
    ----------
    command
        With the full path of the program.
    out
        Takes standard output and standard error.
    folder
        The working directory.
    last_signal
        What the kernel sends to the child when this process dies; None lets the child live on.

    Raises
    ------
    OSError
        If the program cannot be run.
    """
    if last_signal is not None:
        leash = [sys.executable, "-I", "-S", str(_LEASH), str(os.getpid()), str(int(last_signal))]
        command = [*leash, *command]
    born: queue.SimpleQueue[subprocess.Popen[bytes] | OSError] = queue.SimpleQueue()

    def keep() -> None:
        try:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=folder,
                start_new_session=True,
            )
        except OSError as error:
            born.put(error)
            return
        born.put(child)
        child.wait()

    # For the kernel, the owner is the thread that started the child, not the process: a broker started in a thread pool
    # would be killed when the pool is closed. So each child has a thread that lives as long as it does.
    threading.Thread(target=keep, name=f"keeper of {Path(command[0]).name}", daemon=True).start()
    answer = born.get()
    if isinstance(answer, OSError):
        raise answer
    return answer
