"""The page as a person sees it, in a real Chromium: drawn, live, searchable, small, accessible, deaf to what is in a message."""

import contextlib
import datetime as dt
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from playwright.sync_api import expect

from schemas.catalogue import ROWS
from schemas.errors import TroubleError
from streamer.lag.standing import Standing, Status
from streamer.monitor.access import Door
from streamer.monitor.app import Monitor
from streamer.monitor.desk import Desk
from streamer.monitor.sampler import Sampler
from streamer.monitor.server import Server, bound
from tests.catalogue_builder import NIGHTS, append, build
from tests.standings import standing
from tests.streaming import wait_until

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ("--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
         "--disable-component-update --disable-sync")  # fmt: skip
EVIL = "<script>alert(1)</script>"
TOPIC = "<img src=x onerror=alert(2)>"
TOKEN = "correct-horse-battery-staple"

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH")


class World:
    """What the monitor's looks see."""

    def __init__(self) -> None:
        self.lag, self.away = 40, False

    def look(self) -> list[Standing]:
        if self.away:
            raise TroubleError("No broker answers at kafka:9092 <b>really</b>.")
        rows = [standing(p, topic=TOPIC, lag=self.lag, lag_seconds=self.lag / 10, drain_seconds=2.0) for p in range(12)]
        stuck = {"status": Status.STALLED, "why": "nothing <b>moved</b>", "drain_seconds": float("inf"), "lag": 7}
        return [*rows, standing(0, topic="second", **stuck), standing(1, topic="second")]


@contextlib.contextmanager
def serving(root: Path, world: World, truth: pa.Table | None = None, token: str | None = None) -> Iterator[str]:
    """The monitor in a thread; where it is."""
    monitor = Monitor(Sampler(world.look, root, 0.2), Desk(root, truth), Door(token), str(root), 0.2)
    with bound("127.0.0.1", 0) as listening:
        server = Server(monitor.app(only_local=True), monitor.events.close)
        thread = threading.Thread(target=server.serve_until_told, args=(listening,))
        thread.start()
        wait_until(lambda: monitor.sampler.seen.number > 0)
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
        finally:
            server.should_exit = True
            thread.join(20)
    assert not thread.is_alive()


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pa.Table]:
    built = build(tmp_path_factory.mktemp("page") / "catalogue", rows_a_night=250, nights=NIGHTS[:1], commits=1)
    evil = built.rows.slice(3, 1)
    later = evil["ingest_time"][0].as_py() + dt.timedelta(hours=1)
    for name, value in (("object_id", EVIL), ("topic", TOPIC), ("alert_id", EVIL), ("ingest_time", later)):
        column = pa.array([value], ROWS.field(name).type)
        evil = evil.set_column(evil.column_names.index(name), ROWS.field(name), column)
    append(built.path / "rows", evil)
    return built.path, built.truth


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        yield opened
        opened.close()


expect.set_options(timeout=30_000)


@pytest.fixture(scope="module")
def world() -> World:
    return World()


@pytest.fixture(autouse=True)
def as_it_was(world: World) -> Iterator[None]:
    yield
    world.lag, world.away = 40, False


@pytest.fixture(scope="module")
def address(catalogue: tuple[Path, pa.Table], world: World) -> Iterator[str]:
    with serving(*catalogue[:1], world, catalogue[1]) as where:
        yield where


@contextlib.contextmanager
def page(browser: Any, address: str, width: int = 1280, scheme: str = "light", at: str = "") -> Iterator[Any]:
    """The page, all of it drawn. Nothing it does may be an error, a dialog, or a question to anybody else."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    opened, wrong = context.new_page(), []
    opened.set_default_timeout(30_000)
    opened.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
    opened.on("request", lambda asked: None if asked.url.startswith(address) else wrong.append(asked.url))
    opened.goto(address + at)
    for chart in ("lag-chart", "rate-chart", "nz-chart", "pit-chart"):
        opened.wait_for_selector(f"#{chart}[data-drawn=yes]")
    opened.wait_for_selector("#newest-rows li")
    yield opened
    context.close()
    assert wrong == []


INK = """selector => [...document.querySelectorAll(selector)].map(canvas => {
  const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
  let ink = 0;
  for (let k = 3; k < data.length; k += 4) ink += data[k] > 0;
  return ink / (data.length / 4);
})"""


def test_charts_are_drawn_and_numbers_come_alive(browser: Any, address: str, world: World) -> None:
    with page(browser, address) as opened:
        expect(opened.locator("#lag-chart canvas")).to_have_count(1)
        inks = opened.evaluate(INK, ".chart canvas")
        assert len(inks) == 3
        assert all(ink > 0.01 for ink in inks)
        bars = opened.locator("#pit-chart rect.bar")
        expect(bars).to_have_count(20, timeout=30_000)  # a busy machine reads the night in more than one look
        assert opened.locator("#line").inner_text() == "Stuck: second, 1 of 2 partitions: nothing <b>moved</b>."
        assert opened.locator("#detail-title").inner_text() == "second"  # the worst is shown first
        waiting = opened.locator("#tiles > div").nth(1).locator(".figure")
        expect(waiting).to_have_text("487")
        world.lag = 90
        expect(waiting).to_have_text("1,087")
        opened.locator(".pick", has_text="<img").click()
        expect(opened.locator("#detail-title")).to_have_text(TOPIC)
        opened.locator("summary").click()
        expect(opened.locator("#partition-rows tr")).to_have_count(12)
        opened.locator("#detail").get_by_text("messages", exact=True).click()
        expect(opened.locator("#lag-caption")).to_have_text("Messages waiting, the 8 worst of 12 partitions")
        opened.locator("#detail").get_by_text("day", exact=True).click()
        assert opened.locator("#refusals").inner_text() != ""
        assert "forest-lsst-01234567" in opened.locator("#model-rows").inner_text()


def test_an_object_is_found_and_what_a_message_says_stays_text(browser: Any, address: str) -> None:
    with page(browser, address) as opened:
        scripts = opened.locator("script").count()
        opened.keyboard.press("/")
        opened.keyboard.type("0000000012")
        opened.keyboard.press("Enter")
        opened.wait_for_selector("#found-rows article:nth-child(2) .curve")
        expect(opened.locator("#found-note")).to_have_text("2 rows in the catalogue’s 501 rows.")
        assert "galaxies, partition 0, offset 12, row 0" in opened.locator("#found-rows").inner_text()
        opened.locator("#newest-rows a", has_text="<script>").click()
        expect(opened.locator("#found-title")).to_have_text(EVIL)
        opened.wait_for_selector("#found-rows article .curve")
        assert TOPIC in opened.locator("#found-rows").inner_text()
        assert opened.locator("script").count() == scripts
        assert opened.locator("main img, main b b, #line b").count() == 0
        opened.reload()
        expect(opened.locator("#found-title")).to_have_text(EVIL)
        opened.fill("#object", "nobody")
        opened.press("#object", "Enter")
        expect(opened.locator("#found-note")).to_have_text("Not in the catalogue’s 501 rows.")
        opened.locator("#found-close").click()
        assert opened.locator("#found").is_hidden()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (375, "dark")])
def test_small_or_dark_it_fits_and_everybody_can_use_it(browser: Any, address: str, width: int, scheme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    with page(browser, address, width, scheme, "#object=0000000012") as opened:
        opened.wait_for_selector("#found-rows .curve")
        opened.locator("summary").click()
        opened.wait_for_selector("#partition-rows tr")
        assert opened.evaluate("document.documentElement.scrollWidth") <= width
        found = Axe().run(opened).response["violations"]
        serious = [
            (v["id"], [node["html"] for node in v["nodes"]]) for v in found if v["impact"] in ("serious", "critical")
        ]
        assert serious == []
        background = opened.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (int(background.removeprefix("rgb(").split(",")[0]) < 60) == (scheme == "dark")


def test_a_broker_that_goes_is_said_and_old_numbers_are_greyed(browser: Any, address: str, world: World) -> None:
    with page(browser, address) as opened:
        assert opened.locator("#stale").is_hidden()
        world.away = True
        opened.wait_for_selector("body.old")
        said = opened.locator("#stale").inner_text()
        assert said.startswith("The broker has not answered since ")
        assert "<b>really</b>" in said
        expect(opened.locator("#tiles .figure").nth(1)).to_have_text("487")
        world.away = False
        opened.wait_for_selector("body:not(.old)")


def test_a_person_signs_in_and_a_monitor_that_goes_is_missed(
    browser: Any, catalogue: tuple[Path, pa.Table], world: World
) -> None:
    with contextlib.ExitStack() as stack:
        where = stack.enter_context(serving(catalogue[0], world, token=TOKEN))
        context = browser.new_context()
        opened = context.new_page()
        opened.goto(where)
        opened.fill("#token", "guess")
        opened.keyboard.press("Enter")
        opened.wait_for_selector("#wrong:not([hidden])")
        opened.fill("#token", TOKEN)
        opened.keyboard.press("Enter")
        opened.wait_for_selector("#tiles .figure")
        assert TOKEN not in opened.url
        assert opened.evaluate("document.cookie") == ""
        stack.close()
        expect(opened.locator("#stale")).to_contain_text("The monitor has not been heard since", timeout=30_000)
        context.close()
