"""The pictures of the monitor in docs/: a demo night as it comes in, looked at by a Chromium on a desk and on a phone.

``python -m benchmarks.monitor_pictures [FOLDER] [--seconds N]``; FOLDER is that of ``slipher demo``, whose model is taken.
"""

import argparse
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from schemas.bands import band_set
from schemas.table_alerts import payloads
from streamer.broker.server import Broker
from streamer.demo import stage
from streamer.demo.sky import with_poison
from streamer.demo.workers import Workers
from streamer.publish import make_topic, publish
from streamer.sink.catalogue import ensure

VISIT, BURST = 20.0, 9_000  # seconds from one visit of the telescope to the next, and its alerts
SIZES: dict[str, tuple[int, int | None, Literal["light", "dark"]]] = {
    "monitor.png": (1180, None, "light"),
    "monitor-phone.png": (375, 812, "dark"),
}
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)


def bursts(messages: Iterator[bytes], until: float) -> Iterator[bytes]:
    """`messages` as a telescope sends them: a burst a visit, spread over a third of it."""
    begun = time.monotonic()
    for k, message in enumerate(messages):
        due = begun + (k // BURST) * VISIT + (k % BURST) / BURST * VISIT / 3
        if k % 100 == 0 and (wait := due - time.monotonic()) > 0:
            time.sleep(wait)
        if time.monotonic() > until:
            return
        yield message


def take(address: str, out: Path, chromium: str) -> None:
    """Both pictures of what is at `address`."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS.split())
        for name, (width, height, scheme) in SIZES.items():
            page = browser.new_page(viewport={"width": width, "height": height or 900}, color_scheme=scheme)
            page.set_default_timeout(60_000)
            page.goto(address)
            for chart in ("lag-chart", "rate-chart", "nz-chart", "pit-chart"):
                page.wait_for_selector(f"#{chart}[data-drawn=yes]")
            page.wait_for_timeout(20_000)  # it reads the night's files bit by bit
            last = page.locator("#tonight").bounding_box()
            assert last is not None
            whole = (
                last["y"] + last["height"] + 16
            )  # on the desk all that fits above the newest rows; a phone's screen is a phone's
            page.screenshot(
                path=out / name, full_page=True, clip={"x": 0, "y": 0, "width": width, "height": height or whole}
            )
        browser.close()


def main() -> None:
    """Play a night, look at it, write the pictures."""
    parser = argparse.ArgumentParser("python -m benchmarks.monitor_pictures")
    parser.add_argument("folder", type=Path, nargs="?", default=Path("demo-night"))
    parser.add_argument("--seconds", type=float, default=300.0, help="of the night, before the pictures are taken")
    parser.add_argument("--out", type=Path, default=Path("docs"))
    given = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("There is no Chromium on PATH.")
    place = stage.prepare(given.folder)
    stage.train(place, band_set(stage.SURVEY), lambda what, done: print(f"{what}: {done:.0%}"))
    alerts = int(given.seconds / VISIT + 3) * BURST
    night = stage.make_night(place, alerts, seed=1)
    ensure(place.catalog)
    with Broker() as broker:
        kafka = {"bootstrap.servers": broker.bootstrap}
        make_topic(stage.TOPIC, stage.PARTITIONS, kafka)
        words = ["--brokers", broker.bootstrap, "--topic", stage.TOPIC, "--model", str(place.model.absolute())]
        words += ["--catalog", str(place.catalog.absolute()), "--start", "earliest", "--commit-seconds", "2"]
        with Workers(2, words, place.root.absolute()):
            log, patience = place.root / "workers.log", time.monotonic() + 120
            while log.read_text().count("claimed") < 2 and time.monotonic() < patience:
                time.sleep(0.2)
            until = time.monotonic() + given.seconds + 60
            messages = bursts(with_poison(payloads(night.table, band_set(stage.SURVEY), night.mjd, "avro")), until)
            threading.Thread(target=publish, args=(messages, stage.TOPIC, kafka), daemon=True).start()
            # From the folder's own parent, so that the page names the catalogue as a person would.
            command = [sys.executable, "-m", "streamer", "monitor", f"{place.root.name}/catalog", "--every", "1"]
            command += ["--brokers", broker.bootstrap, "--port", "0", "--truth", str(place.truth.absolute())]
            monitor = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=place.root.absolute().parent)
            try:
                assert monitor.stderr is not None
                line = next(line for line in monitor.stderr if "http://" in line)
                time.sleep(given.seconds)
                take(line.split()[1], given.out, chromium)
            finally:
                monitor.terminate()
                monitor.wait()


if __name__ == "__main__":
    main()
