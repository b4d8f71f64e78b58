"""The files of the page: ours beside this module, uPlot's from the build, or from where its package is installed."""

import hashlib
from functools import cache
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import NamedTuple

PAGE = Path(__file__).parent / "page"
CHARTS = ("uPlot.iife.js", "uPlot.min.css")
TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
}


class Asset(NamedTuple):
    """A file of the page: its bytes, media type, and a tag that changes with its content."""

    content: bytes
    media_type: str
    tag: str


@cache
def assets() -> dict[str, Asset]:
    """All files by the path under which they are served, such as ``main.js`` or ``uplot/uPlot.iife.js``."""
    held = {path.name: path for path in PAGE.iterdir() if path.suffix in TYPES}
    held |= {f"uplot/{name}": path for name, path in _charts().items()}
    return {name: _asset(path) for name, path in held.items()}


def has_charts() -> bool:
    """Whether uPlot is part of this installation."""
    return all(f"uplot/{name}" in assets() for name in CHARTS)


def _charts() -> dict[str, Path]:
    built = {name: PAGE / "uplot" / name for name in CHARTS}
    if all(path.is_file() for path in built.values()):
        return built
    try:  # a checkout that was never built: the package is there for the build
        return {f.name: Path(str(f.locate())) for f in files("uplot-python") or [] if f.name in CHARTS}
    except PackageNotFoundError:
        return {}


def _asset(path: Path) -> Asset:
    content = path.read_bytes()
    media_type = f"{TYPES[path.suffix]}; charset=utf-8"
    return Asset(content, media_type, f'"{hashlib.sha256(content).hexdigest()[:16]}"')
