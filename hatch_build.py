"""Takes uPlot, the charts of the monitor's page, into the tree and the wheel. It comes with the package uplot-python.

Only its JavaScript, its style sheet and its licence are wanted: the page loads nothing from anywhere else. The files stand in a
folder that git ignores, for an editable installation as for a wheel.
"""

from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER = "streamer/monitor/page/uplot"
WANTED = ("uPlot.iife.js", "uPlot.min.css")
LICENCE = "(MIT Licensed)"  # what the head of the JavaScript says; its text stands beside the page as uPlot-LICENSE.txt


class Charts(BuildHookInterface):
    """Runs before every build."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Copy the files, and tell the build to take them although git ignores them."""
        if self.target_name != "wheel":  # whoever builds a wheel from the sources runs this too
            return
        try:
            found = {file.name: Path(str(file.locate())) for file in files("uplot-python") or [] if file.name in WANTED}
        except PackageNotFoundError:
            found = {}
        if set(found) != set(WANTED):
            self.app.display_warning("uplot-python is not here: the monitor's page will have no charts.")
            return
        if LICENCE not in found[WANTED[0]].read_text(encoding="utf-8")[:400]:
            raise ValueError("uPlot's licence is no longer what uPlot-LICENSE.txt says: look at it")
        folder = Path(self.root, FOLDER)
        folder.mkdir(parents=True, exist_ok=True)
        for name, path in found.items():
            (folder / name).write_bytes(path.read_bytes())
        build_data["artifacts"] += [f"/{FOLDER}/{name}" for name in WANTED]
