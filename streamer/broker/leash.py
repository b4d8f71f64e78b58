"""Becomes the command it is given, after asking the kernel to signal it when its owner dies.

Run as a script by the broker, not imported: ``python leash.py OWNER_PID SIGNAL COMMAND...``. It stands between the
owner and Java because the request has to be made in the child, and Python code between fork and exec is unsafe in a
process with threads. The kernel keeps the request across exec.
"""

import ctypes
import os
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(arguments: list[str]) -> None:
    """Put on the leash, then exec."""
    owner, signal, *command = arguments
    if sys.platform == "linux":  # elsewhere an owner that is killed leaves its broker behind
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal), 0, 0, 0)
    if os.getppid() != int(owner):  # it died before we asked, so no signal will come
        sys.exit(1)
    os.execv(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
