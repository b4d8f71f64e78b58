"""What the page is made of: all of it is in the wheel, nothing of it comes from anywhere else."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

from streamer.monitor import assets
from streamer.monitor.assets import CHARTS, PAGE

HOUSE = Path(__file__).parent.parent


def test_a_wheel_holds_the_page_and_the_charts_with_their_licence(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=HOUSE, check=True, capture_output=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        names = set(wheel.namelist())
        charts = wheel.read(f"streamer/monitor/page/uplot/{CHARTS[0]}").decode()
    assert {f"streamer/monitor/page/{path.name}" for path in PAGE.iterdir() if path.is_file()} <= names
    assert f"streamer/monitor/page/uplot/{CHARTS[1]}" in names
    assert any(name.endswith("licenses/streamer/monitor/page/uPlot-LICENSE.txt") for name in names)
    owner = re.search(r"Copyright \(c\) \d+, [\w ]+", charts)
    assert owner
    assert owner.group() in (PAGE / "uPlot-LICENSE.txt").read_text()


def test_a_checkout_that_was_never_built_takes_the_charts_from_their_package(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(assets, "PAGE", tmp_path)
    found = assets._charts()
    assert set(found) == set(CHARTS)
    assert all(path.is_file() and tmp_path not in path.parents for path in found.values())
