"""An S3-compatible object store on this machine: moto's server, in a process of its own."""

import socket
import subprocess
import sys
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from streamer.sink.store import place
from streamer.sink.store_path import bucket as store_of
from tests.streaming import wait_until


@contextmanager
def server() -> Iterator[str]:
    """Its address, as long as it runs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        try:
            return bool(urllib.request.urlopen(address, timeout=2).status)
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False

    try:
        wait_until(answers, seconds=60)
        yield address
    finally:
        process.kill()
        process.wait()


def bucket(address: str) -> Path:
    """A place in a new bucket of the store at `address`."""
    name = f"night-{uuid.uuid4().hex}"
    urllib.request.urlopen(urllib.request.Request(f"{address}/{name}", method="PUT"), timeout=10)
    return place(f"s3://{name}/survey/catalogue")


def options(address: str) -> dict[str, str]:
    return {
        "aws_access_key_id": "key",
        "aws_secret_access_key": "secret",
        "aws_region": "us-east-1",
        "aws_endpoint_url": address,
        "aws_allow_http": "true",
        "aws_conditional_put": "etag",
    }


def use(address: str, patch: pytest.MonkeyPatch) -> None:
    """Take the options of the store at `address` for a while."""
    for key, value in options(address).items():
        patch.setenv(key.upper(), value)
    store_of.cache_clear()
