"""Is what runs in this container alive? Exit code 0 or 1, for Docker; run by ``python -IS``, which starts in 20 ms.

Asks /healthz at the port of SLIPHER_METRICS_PORT, or the one that is given.
"""

import http.client
import os
import sys

PATIENCE_S = 4.0  # Docker's own patience is five seconds


def main(port: str) -> int:
    """Ask, and say what was answered: `docker inspect` shows it."""
    try:
        link = http.client.HTTPConnection("127.0.0.1", int(port), timeout=PATIENCE_S)
        link.request("GET", "/healthz")
        answer = link.getresponse()
        text = answer.read().decode(errors="replace").strip()
    except (OSError, ValueError, http.client.HTTPException) as error:
        sys.stdout.write(f"nothing answers at port {port}: {error}\n")
        return 1
    sys.stdout.write(f"{answer.status} {text}\n")
    return 0 if answer.status == 200 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else os.environ.get("SLIPHER_METRICS_PORT", "9464")))
