"""The list of metrics is whole, well-formed, and what is exposed is made of it."""

import ast
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from schemas.batch import Reason
from streamer.logs import FIELDS
from streamer.metrics import names
from streamer.metrics.health import POLLING_LIMIT_S, TASK_LIMIT_S
from streamer.metrics.meters import Meters
from streamer.metrics.names import LABELS, METRICS, Kind, Metric, Stage
from streamer.metrics.station import REASONS


def used(meters: Meters) -> Meters:
    """Every metric of `meters` with a value, of one series each."""
    for metric in METRICS:
        labels = [f"a {label}" for label in metric.labels]
        made = {Kind.COUNTER: meters.counter, Kind.GAUGE: meters.gauge, Kind.HISTOGRAM: meters.histogram}[metric.kind]
        series = made(metric).labels(*labels) if labels else made(metric)
        series.observe(1.0) if metric.kind is Kind.HISTOGRAM else series.inc(1.0)
    return meters


def test_every_constant_is_in_the_list_once() -> None:
    constants = [value for value in vars(names).values() if isinstance(value, Metric)]
    assert sorted(constants) == sorted(METRICS)
    assert len({metric.name for metric in METRICS}) == len(METRICS)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_metric_is_well_formed(metric: Metric) -> None:
    assert re.fullmatch(r"slipher_[a-z0-9_]+", metric.name)
    assert metric.name.endswith("_total") == (metric.kind is Kind.COUNTER)
    assert metric.about.endswith(".")
    assert set(metric.labels) <= set(LABELS)
    assert bool(metric.buckets) == (metric.kind is Kind.HISTOGRAM)
    assert list(metric.buckets) == sorted(set(metric.buckets))
    if metric.unit == "seconds" or metric.unit == "bytes":  # Prometheus' own rule: the unit stands in the name
        assert metric.name.removesuffix("_total").endswith(metric.unit)


def test_the_bounds_of_labels_are_those_that_are_said() -> None:
    assert LABELS["reason"].endswith(f": {len(REASONS)}")
    assert set(REASONS) == {reason.name for reason in Reason} - {"EMPTY"}
    assert LABELS["stage"].endswith(f": {len(Stage)}")


def test_what_is_exposed_is_what_is_listed() -> None:
    text = generate_latest(used(Meters(METRICS, process=False))).decode()
    found = {family.name: family for family in text_string_to_metric_families(text)}
    assert len(found) == len(METRICS)
    for metric in METRICS:
        family = found[metric.name.removesuffix("_total")]
        assert (family.type, family.documentation) == (metric.kind, metric.about)
        assert all(set(metric.labels) == set(s.labels) - {"le"} for s in family.samples)
    assert "_created" not in text


def test_a_gauge_that_nobody_knows_is_absent_and_a_counter_begins_at_zero() -> None:
    meters = Meters([names.READY, names.CONFLICTS], process=False)
    text = generate_latest(meters).decode()
    assert "slipher_ready" not in text
    assert "slipher_commit_conflicts_total 0.0" in text
    meters.gauge(names.READY).set(1)
    assert "slipher_ready 1.0" in generate_latest(meters).decode()


def test_what_is_not_listed_cannot_be_used() -> None:
    meters = Meters([names.READY], process=False)
    with pytest.raises(KeyError, match="slipher_stalled is not exposed here"):
        meters.gauge(names.STALLED)
    with pytest.raises(TypeError, match="slipher_ready is a gauge"):
        meters.counter(names.READY)


def test_two_sets_share_nothing() -> None:
    one, other = Meters([names.CONFLICTS], process=False), Meters([names.CONFLICTS], process=False)
    one.counter(names.CONFLICTS).inc()
    assert "slipher_commit_conflicts_total 0.0" in generate_latest(other).decode()


def test_prometheus_own_lint_has_nothing_to_say() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not on PATH: apt-get install prometheus")
    text = generate_latest(used(Meters(METRICS)))
    done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


def test_the_document_has_every_name() -> None:
    text = (Path(__file__).parent.parent / "docs" / "metrics.md").read_text()
    for metric in METRICS:
        assert f"| `{metric.name}` | {metric.kind} | {', '.join(metric.labels)} | {metric.about} |" in text
    for name, about in (LABELS | FIELDS).items():
        assert f"| `{name}` | {about} |" in text
    said = set(re.findall(r"`(slipher_[a-z_]+[a-z])`", text))
    assert said == {metric.name for metric in METRICS}
    for stage in Stage:
        assert f"`{stage}`" in text
    assert f"gave no sign for {TASK_LIMIT_S:.0f} s" in text
    assert f"did not go round for {POLLING_LIMIT_S:.0f} s" in text


def test_every_metric_is_used() -> None:
    """A name in the list that nothing sets would be a promise that nobody keeps."""
    used = set()
    for path in sorted((Path(__file__).parent.parent / "streamer").rglob("*.py")):
        if path.name in ("names.py", "alerts.py", "dashboard.py", "panels.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "names":
                used.add(node.attr)
    constants = {key for key, value in vars(names).items() if isinstance(value, Metric)}
    assert constants - used == set()
