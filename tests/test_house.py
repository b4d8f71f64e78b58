"""The house: imports run one way, files stay small, start-up imports nothing heavy, nothing of a machine is committed."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

HOUSE = Path(__file__).parent.parent
ROOMS = ["schemas", "models", "consumers", "streamer"]  # imports run from right to left only


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (HOUSE / folder).rglob("*.py"))


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}:{node.lineno}: a relative import hides its room"
            names.add(node.module)
    return names


@pytest.mark.parametrize("room", ROOMS)
def test_imports_run_one_way(room: str) -> None:
    above = set(ROOMS[ROOMS.index(room) + 1 :]) | {"tests", "benchmarks"}
    for path in sources(room):
        wrong = {name for name in imported(path) if name.split(".")[0] in above}
        assert not wrong, f"{path.relative_to(HOUSE)} imports {wrong}"


@pytest.mark.parametrize(
    ("room", "foreign"),
    [("models", {"confluent_kafka", "deltalake"}), ("schemas", {"confluent_kafka", "deltalake"})],
)
def test_rooms_know_only_their_own(room: str, foreign: set[str]) -> None:
    for path in sources(room):
        assert not {name.split(".")[0] for name in imported(path)} & foreign, path


def test_a_file_is_one_idea() -> None:
    long = {str(p.relative_to(HOUSE)): n for p in sources(*ROOMS) if (n := p.read_text().count("\n")) > 400}
    assert not long


def test_nothing_of_this_machine_is_committed() -> None:
    """No address of a registry and no path of a developer's machine in anything tracked."""
    tracked = subprocess.run(["git", "ls-files"], cwd=HOUSE, capture_output=True, text=True, check=True).stdout.split()
    hosts = re.compile(
        r"py" + r"pi\.org|python" + r"hosted|repo1\.maven|maven\.org/maven2|/ro" + r"ot/|/ho" + r"me/\w+/"
    )
    for name in tracked:
        path = HOUSE / name
        if path.suffix in {".py", ".md", ".toml", ".lock", ".json", ".yml", ""} and path.is_file():
            found = hosts.search(path.read_text(errors="ignore"))
            assert not found, f"{name}: {found and found.group()}"


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, json; sys.argv = ['slipher', '--help']\n"
        "from streamer.cli.main import status\n"
        "print(json.dumps([status(), sorted({m.split('.')[0] for m in sys.modules})]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=HOUSE)
    status, modules = json.loads(done.stdout.splitlines()[-1])
    assert not status
    assert "Commands" in done.stdout
    assert not {"numpy", "numba", "pyarrow", "sklearn", "matplotlib", "deltalake", "confluent_kafka"} & set(modules)


@pytest.mark.parametrize("command", ["run", "inspect", "config", "doctor"])
def test_a_command_that_is_not_run_imports_nothing_heavy(command: str) -> None:
    code = f"import sys, streamer.cli.{command}; print(*{{m.split('.')[0] for m in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=HOUSE)
    assert not {"numpy", "numba", "pyarrow", "deltalake", "confluent_kafka", "torch"} & set(done.stdout.split())


def test_a_look_at_a_catalogue_imports_no_settings() -> None:
    code = "import sys, streamer.cli.catalog; print(*{m.split('.')[0] for m in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=HOUSE)
    assert not {"numpy", "pyarrow", "pydantic", "pydantic_settings"} & set(done.stdout.split())


def test_every_command_is_there_and_helps() -> None:
    from streamer.cli.main import COMMANDS, _load

    for name, (_, text) in COMMANDS.items():
        command = _load(name)
        assert command.help or command.callback.__doc__ or getattr(command, "commands", None), name
        assert text.endswith(".")
        for each in (command, *getattr(command, "commands", {}).values()):
            for paragraph in (each.help or "").split("\n\n"):  # else lines of the source break in any other terminal
                assert "\n" not in paragraph or "\n " in paragraph, f"{name} {each.name}: {paragraph}"
