"""Images and compose file: hadolint and docker-compose, where they are installed, take them, and they fit what they run."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from streamer.cli.main import _load
from streamer.configuration.base import PREFIX
from streamer.settings import fields
from streamer.supervisor import KILL_S

HOUSE = Path(__file__).parent.parent
DOCKER = HOUSE / "docker"
FILES = [DOCKER / "Dockerfile", DOCKER / "Dockerfile.gpu"]


def instructions(path: Path) -> list[tuple[str, str]]:
    """(instruction, words) of a Dockerfile, lines joined, comments gone."""
    lines = [line for line in path.read_text().splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines)).splitlines()
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in joined)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_hadolint_has_no_objection(path: Path) -> None:
    done = subprocess.run([Path(sys.executable).parent / "hadolint", path], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_an_image_is_what_it_promises(path: Path) -> None:
    said = instructions(path)
    stages = [rest for word, rest in said if word == "FROM"]
    assert said[0] == ("ARG", "BASE=python:3.12-slim"), "the base is the builder's to pin"
    assert all(rest.startswith(("${BASE}", "build")) for rest in stages)
    last = said[max(k for k, (word, _) in enumerate(said) if word == "FROM") :]
    words = dict(last)
    assert int(words["USER"]) > 0
    assert "health.py" in words["HEALTHCHECK"]
    assert words["STOPSIGNAL"] == "SIGTERM"
    assert words["ENTRYPOINT"].startswith('["tini", "--"')
    assert not [rest for word, rest in said if word == "ADD"]
    assert not re.search(r"password|token|secret|credential", path.read_text(), re.IGNORECASE)
    installs = [rest for word, rest in said if word == "RUN" and "requirements" in rest]
    assert all("--require-hashes" in part for rest in installs for part in rest.split("&&") if "requirements" in part)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_all_that_the_wheel_is_made_of_is_copied(path: Path) -> None:
    copied: set[str] = set()
    for word, rest in instructions(path):
        if word == "COPY" and not rest.startswith("--from"):
            *sources, _ = rest.split()
            copied |= set(sources)
    for source in copied:
        assert (HOUSE / source).exists(), source
    project = tomllib.loads((HOUSE / "pyproject.toml").read_text())
    build = project["tool"]["hatch"]["build"]
    wanted = {*build["targets"]["wheel"]["packages"], project["project"]["readme"]}
    wanted |= {name.split("/")[0] for name in project["project"]["license-files"]}
    if "custom" in build.get("hooks", {}):
        wanted.add("hatch_build.py")
    assert wanted <= copied
    ignored = (HOUSE / ".dockerignore").read_text().splitlines()
    assert "docker/secrets" in ignored


def test_the_images_differ_in_what_a_gpu_needs_alone() -> None:
    cpu, gpu = (instructions(path) for path in FILES)
    same = [(word, rest.replace("requirements-worker.lock", "requirements-gpu.lock")) for word, rest in cpu]
    assert [each for each in gpu if "NVIDIA_" not in each[1]] == same


def versions(name: str) -> dict[str, str]:
    return dict(re.findall(r"^([\w.-]+)==(\S+)", (HOUSE / name).read_text(), re.MULTILINE))


def test_the_lock_of_the_gpu_has_torch_and_the_versions_of_the_worker() -> None:
    worker, gpu = versions("requirements-worker.lock"), versions("requirements-gpu.lock")
    assert "torch" in gpu
    assert worker.items() <= gpu.items()


def test_what_make_tools_adds_changes_no_version_that_the_tests_have() -> None:
    dev, large = versions("requirements-dev.lock"), versions("requirements-large.lock")
    assert {"torch", "onnxruntime", "onnxscript", "openvino", "pandas", "qp-prob"} <= large.keys() - dev.keys()
    assert {name: dev[name] for name in large.keys() & dev.keys()} == {
        name: large[name] for name in large.keys() & dev.keys()
    }
    assert "triton" not in large  # 1 GB, and of no use on a CPU


# -- what runs in them ---------------------------------------------------------------------------------------------------


@pytest.fixture
def answering() -> Iterator[tuple[list[int], int]]:
    """A server of /healthz: the status that it gives, to be changed, and its port."""
    status = [200]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status[0] if self.path == "/healthz" else 404)
            self.end_headers()
            self.wfile.write(b"commit for 400 s")

        def log_message(self, format: str, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield status, server.server_address[1]
    server.shutdown()
    server.server_close()


def healthy(port: int | str, by_environment: bool = False) -> tuple[int, str]:
    words = [] if by_environment else [str(port)]
    environment = {"SLIPHER_METRICS_PORT": str(port)} if by_environment else {}
    command = [sys.executable, "-IS", DOCKER / "health.py", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, env=environment)
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_a_container_is_as_healthy_as_its_process_says(answering: tuple[list[int], int]) -> None:
    status, port = answering
    assert healthy(port) == (0, "200 commit for 400 s\n")
    status[0] = 503
    assert healthy(port, by_environment=True) == (1, "503 commit for 400 s\n")
    assert healthy("no number")[0] == 1


def test_a_container_without_an_answer_is_unhealthy() -> None:
    code, said = healthy(1)
    assert code == 1
    assert said.startswith("nothing answers at port 1")


@pytest.mark.parametrize("baseline", ["", "NUMBA_CPU_NAME=x86-64-v3\nNUMBA_CPU_FEATURES=\n"], ids=["host", "baseline"])
def test_a_container_starts_with_the_kernels_of_its_image(tmp_path: Path, baseline: str) -> None:
    (tmp_path / "image" / "cache" / "room").mkdir(parents=True)
    (tmp_path / "image" / "cache" / "room" / "kernel.nbi").write_text("compiled")
    (tmp_path / "image" / "cpu.env").write_text(baseline)
    program = tmp_path / "bin" / "slipher"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "$# $* ${NUMBA_CPU_NAME-host} ${NUMBA_CPU_FEATURES-host}"\n')
    program.chmod(0o755)
    cache = tmp_path / "tmp" / "kernels"
    cache.parent.mkdir()
    environment = os.environ | {
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "KERNELS": str(tmp_path / "image"),
        "NUMBA_CACHE_DIR": str(cache),
    }
    start = [DOCKER / "start.sh", "run", "--kafka", "client.id=a b"]
    for _ in range(2):
        done = subprocess.run(start, capture_output=True, text=True, env=environment, timeout=30)
        assert done.stderr == ""
        assert done.stdout == f"3 run --kafka client.id=a b {'x86-64-v3 ' if baseline else 'host host'}\n"
        assert (cache / "room" / "kernel.nbi").read_text() == "compiled"
        (cache / "room" / "own.nbi").write_text("a kernel of this processor, which the next start keeps")
        assert sorted(path.name for path in cache.parent.iterdir()) == ["kernels"]
    assert (cache / "room" / "own.nbi").exists()


# -- compose -------------------------------------------------------------------------------------------------------------


@cache
def composed() -> dict[str, Any]:
    """Both files as docker-compose understands them, old or new; skips where neither is installed."""
    program = ["docker-compose"] if shutil.which("docker-compose") else ["docker", "compose"]
    if shutil.which(program[0]) is None:
        pytest.skip("docker-compose is not installed: `make tools`")
    words = ["--profile", "gpu", "-f", DOCKER / "compose.yaml", "-f", DOCKER / "compose.secure.yaml", "config"]
    done = subprocess.run([*program, *words], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    out: dict[str, Any] = yaml.safe_load(done.stdout)
    return out


def compose() -> dict[str, Any]:
    out: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    return out


def seconds(text: str) -> float:
    return float(text.removesuffix("s"))


def test_docker_compose_understands_it() -> None:
    services = composed()["services"]
    assert {"kafka", "topic", "worker-1", "worker-2", "worker-images", "monitor", "prometheus", "grafana"} == set(
        services
    )
    for name in ("worker-1", "worker-2", "worker-images", "monitor"):
        service = services[name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["mem_limit"], name
    for name in ("worker-1", "worker-2"):
        assert seconds(services[name]["stop_grace_period"]) > KILL_S, (
            "longer than a commit, and than the supervisor waits"
        )


def test_docker_compose_understands_a_kafka_of_somebody_else() -> None:
    config = composed()
    for name in ("worker-1", "worker-2", "monitor"):
        service = config["services"][name]
        assert service["environment"]["SLIPHER_CONFIG"] == "/etc/slipher/slipher.toml"
        assert {each["source"] for each in service["secrets"]} >= {"kafka-password", "kafka-ca.pem"}
        assert "password" not in str(service["environment"]).lower()


def test_only_this_machine_reaches_it() -> None:
    for name, service in compose()["services"].items():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), name


def test_every_file_that_is_mounted_is_there() -> None:
    for name, service in compose()["services"].items():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("./"):
                assert (DOCKER / source).exists(), (name, source)
    kept = subprocess.run(["git", "ls-files", "docker"], cwd=HOUSE, capture_output=True, text=True, check=True).stdout
    assert "secrets/" not in kept


def test_commands_are_those_of_slipher() -> None:
    services = compose()["services"]
    for name in ("worker-1", "worker-2", "worker-images", "monitor"):
        assert services[name]["restart"] == "unless-stopped"
        word, *rest = services[name]["command"]
        flags = {flag for parameter in _load(word).params for flag in parameter.opts}
        assert {each for each in rest if each.startswith("--")} <= flags


def test_variables_are_settings_of_slipher() -> None:
    """Else a misspelt one would be let pass, and nobody would know."""
    known = {f"{PREFIX}{name.upper()}" for name in fields()} | {f"{PREFIX}CONFIG"}
    given = {
        word.split("=")[0]
        for path in FILES
        for kind, rest in instructions(path)
        if kind == "ENV"
        for word in rest.split()
    }
    for file in ("compose.yaml", "compose.secure.yaml"):
        for service in yaml.safe_load((DOCKER / file).read_text())["services"].values():
            given |= set(service.get("environment", {}))
    for path in (DOCKER / "kubernetes").rglob("*.yaml"):
        given |= set(re.findall(r"name: (SLIPHER_\w+)", path.read_text()))
    ours = {name for name in given if name.startswith(PREFIX)}
    assert {"SLIPHER_BROKERS", "SLIPHER_KAFKA", "SLIPHER_METRICS_PORT", "SLIPHER_CONFIG"} <= ours
    assert ours <= known


def test_prometheus_finds_the_workers_where_they_are() -> None:
    jobs = yaml.safe_load((DOCKER / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    by_name = {job["job_name"]: job for job in jobs}
    (found,) = by_name["slipher-worker"]["dns_sd_configs"]
    services = compose()["services"]
    for name in ("worker-1", "worker-2"):
        assert found["names"] == services[name]["networks"]["inside"]["aliases"]
    environment = dict(
        pair.split("=", 1) for word, rest in instructions(FILES[0]) if word == "ENV" for pair in shlex.split(rest)
    )
    assert environment["SLIPHER_METRICS_PORT"] == str(found["port"])
    assert environment["SLIPHER_METRICS_HOST"] == "0.0.0.0"
    port = services["monitor"]["command"][services["monitor"]["command"].index("--port") + 1]
    assert by_name["slipher-monitor"]["static_configs"] == [{"targets": [f"monitor:{port}"]}]
    assert services["monitor"]["healthcheck"]["test"][-1] == port
