"""Manifests: every overlay as Kustomize builds it, held against Kubernetes' own schemas, and against the code that it runs."""

import json
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from streamer.cli import metrics as command
from streamer.metrics import rules
from streamer.metrics.alerts import MEMORY
from streamer.supervisor import KILL_S
from tests.test_alert_rules import promtool

HOUSE = Path(__file__).parent.parent
ROOT = HOUSE / "docker" / "kubernetes"
OVERLAYS = sorted(path.name for path in (ROOT / "overlays").iterdir())
# Kinds of others' operators: Kubernetes has no schema of them.
FOREIGN = {"ScaledObject", "PodMonitor", "PrometheusRule"}
Document = dict[str, Any]


def documents(text: str) -> list[Document]:
    return [document for document in yaml.load_all(text, yaml.CSafeLoader) if document]


@cache
def built(overlay: str) -> list[Document]:
    """What `kubectl apply -k` would send; skips where there is no kubectl."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl, which has Kustomize in it, is not installed")
    command = ["kubectl", "kustomize", str(ROOT / "overlays" / overlay)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr
    return documents(done.stdout)


def one(found: list[Document], kind: str, name: str) -> Document:
    (document,) = (each for each in found if each["kind"] == kind and each["metadata"]["name"] == name)
    return document


def container(document: Document) -> Document:
    (out,) = document["spec"]["template"]["spec"]["containers"]
    return out


def base(kind: str, name: str) -> Document:
    found = [each for path in sorted((ROOT / "base").glob("*.yaml")) for each in documents(path.read_text())]
    return one([each for each in found if "metadata" in each], kind, name)


WORKER, MONITOR = base("StatefulSet", "slipher-worker"), base("Deployment", "slipher-monitor")


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kubernetes_takes_every_document(overlay: str) -> None:
    found = built(overlay)
    assert len({(each["kind"], each["metadata"]["name"]) for each in found}) == len(found)
    for document in found:
        assert document["metadata"]["namespace"] == "slipher"
        assert document["metadata"]["labels"]["app.kubernetes.io/name"] == "slipher"
        if document["kind"] not in FOREIGN:
            taken(json.dumps(document))


@cache
def taken(document: str) -> None:
    """By Kubernetes; most documents are in all overlays."""
    kubernetes_validate.validate(json.loads(document), "1.35", strict=True)


def test_files_and_targets_that_are_named_are_there() -> None:
    """Holds without kubectl too: resources, components, patches and what they are to change."""
    for path in sorted(ROOT.rglob("kustomization.yaml")):
        (told,) = documents(path.read_text())
        for name in [*told.get("resources", []), *told.get("components", [])]:
            assert (path.parent / name).exists(), (path, name)
        for generator in told.get("configMapGenerator", []):
            assert all((path.parent / name).exists() for name in generator["files"])
        for patch in told.get("patches", []):
            assert "path" not in patch or (path.parent / patch["path"]).exists()
            target = patch["target"]
            assert {target["kind"], target.get("name")} & {"StatefulSet", "Deployment", "PersistentVolumeClaim"}
            if "name" in target:
                base(target["kind"], target["name"])
    used = {path.parent for path in ROOT.rglob("kustomization.yaml")}
    named = {
        (path.parent / name).resolve()
        for path in ROOT.rglob("kustomization.yaml")
        for name in [
            *documents(path.read_text())[0].get("resources", []),
            *documents(path.read_text())[0].get("components", []),
        ]
    }
    assert {path for path in used if path.parent.name == "components"} <= named, "a component that no overlay tries"


def test_rules_are_those_of_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    file = ROOT / "components" / "prometheus-operator" / "rules.yaml"
    command.rules(runbook=rules.RUNBOOK, operator=True)
    assert file.read_text() == capsys.readouterr().out, f"run `slipher metrics rules --operator > {file}`"


@pytest.mark.parametrize("document", [WORKER, MONITOR], ids=["worker", "monitor"])
def test_a_pod_may_do_nothing_that_it_need_not(document: Document) -> None:
    pod, only = document["spec"]["template"]["spec"], container(document)
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False, "a service's variable would be taken for a setting"
    rights = only["securityContext"]
    assert rights == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    mounted = {each["name"]: each for each in only["volumeMounts"]}
    assert set(mounted) == {each["name"] for each in pod["volumes"]}
    writable = {name for name, each in mounted.items() if not each.get("readOnly")}
    assert writable == ({"catalogue", "tmp"} if document is WORKER else {"tmp"})
    assert "memory" in only["resources"]["limits"]
    ports = {each["name"] for each in only["ports"]}
    for probe, path in (("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")):
        assert only[probe]["httpGet"]["path"] == path
        assert only[probe]["httpGet"]["port"] in ports


def test_a_worker_is_given_the_time_and_memory_that_it_needs() -> None:
    assert WORKER["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > KILL_S
    assert container(WORKER)["resources"]["limits"]["memory"] == "2Gi"
    assert MEMORY * 2 * 2**30 > 1.5e9, "the alert must not fire on a worker that is well: it takes less than 1 GB"
    budget = base("PodDisruptionBudget", "slipher-worker")
    labels = WORKER["spec"]["template"]["metadata"]["labels"]
    assert budget["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert budget["spec"]["maxUnavailable"] == 1
    assert "group.instance.id=$(POD_NAME)" in container(WORKER)["args"]


@pytest.mark.parametrize("document", [WORKER, MONITOR], ids=["worker", "monitor"])
def test_the_network_lets_in_who_scrapes_and_nobody_else(document: Document) -> None:
    policy = base("NetworkPolicy", document["metadata"]["name"])["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    labels = document["spec"]["template"]["metadata"]["labels"]
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    (rule,) = policy["ingress"]
    assert [port["port"] for port in rule["ports"]] == [port["name"] for port in container(document)["ports"]]
    assert all("from" in each for each in policy["ingress"])


def test_jobs_have_the_names_that_the_rules_speak_of() -> None:
    found = documents((ROOT / "components" / "prometheus-operator" / "monitors.yaml").read_text())
    jobs = {}
    for monitor in found:
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        (job,) = (each["replacement"] for each in endpoint["relabelings"] if each["targetLabel"] == "job")
        jobs[job] = (endpoint["port"], monitor["spec"]["selector"]["matchLabels"]["app.kubernetes.io/component"])
    assert jobs == {"slipher-worker": ("metrics", "worker"), "slipher-monitor": ("http", "monitor")}
    assert set(re.findall(r'job="([\w-]+)"', rules.prometheus())) == set(jobs)


def test_workers_are_scaled_by_seconds_of_lag_and_no_further_than_partitions() -> None:
    (keda,) = documents((ROOT / "components" / "keda" / "scaledobject.yaml").read_text())
    (hpa,) = documents((ROOT / "components" / "hpa" / "autoscaler.yaml").read_text())
    (trigger,) = keda["spec"]["triggers"]
    (metric,) = hpa["spec"]["metrics"]
    assert 'max(slipher_topic_lag_seconds{topic="alerts", model=~".+"})' in trigger["metadata"]["query"]
    assert metric["external"]["metric"]["name"] == "slipher_topic_lag_seconds"
    assert trigger["metadata"]["threshold"] == metric["external"]["target"]["value"] == "60"
    assert keda["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"] == hpa["spec"]["behavior"]
    for scaled in (keda["spec"]["scaleTargetRef"], hpa["spec"]["scaleTargetRef"]):
        assert (scaled["kind"], scaled["name"]) == ("StatefulSet", "slipher-worker")
    for overlay in ("keda", "hpa"):
        assert "replicas" not in one(built(overlay), "StatefulSet", "slipher-worker")["spec"]


def test_without_a_lag_there_are_as_many_workers_as_the_fallback_says() -> None:
    """KEDA before 2.18 falls back for averages alone, and takes an empty answer for 0 unless it is told not to."""
    (keda,) = documents((ROOT / "components" / "keda" / "scaledobject.yaml").read_text())
    (trigger,) = keda["spec"]["triggers"]
    assert trigger["metricType"] == "AverageValue"
    assert trigger["metadata"]["ignoreNullValues"] == "false"
    assert keda["spec"]["fallback"] == {"failureThreshold": 3, "replicas": 4}


def test_keda_asks_for_workers_times_lag(tmp_path: Path) -> None:
    (keda,) = documents((ROOT / "components" / "keda" / "scaledobject.yaml").read_text())
    lag = [
        {"series": f'slipher_topic_lag_seconds{{topic="{topic}",model="{model}"}}', "values": value}
        for topic, model, value in (("alerts", "a", "90"), ("alerts", "b", "30"), ("other", "a", "900"))
    ]
    workers = [
        {"series": f'up{{job="{job}",instance="{k}"}}', "values": value}
        for k, (job, value) in enumerate([("slipher-worker", "1")] * 3 + [("slipher-worker", "0"), ("kafka", "1")])
    ]
    tests = [
        {
            "interval": "1m",
            "input_series": series,
            "promql_expr_test": [
                {
                    "expr": keda["spec"]["triggers"][0]["metadata"]["query"],
                    "eval_time": "0m",
                    "exp_samples": [] if value is None else [{"labels": "{}", "value": value}],
                }
            ],
        }
        for series, value in ((lag + workers, 270), (lag, 90), (workers, None))
    ]
    file = tmp_path / "query.yml"
    file.write_text(yaml.safe_dump({"rule_files": [], "evaluation_interval": "1m", "tests": tests}))
    promtool("test", "rules", file)


@pytest.mark.parametrize(
    ("overlay", "protocol", "keys"),
    [
        ("keda", "SASL_SSL", {"username", "password", "ca.crt"}),
        ("hpa", "SSL", {"ca.crt", "tls.crt", "tls.key"}),
    ],
)
def test_the_way_into_kafka_is_in_a_secret(overlay: str, protocol: str, keys: set[str]) -> None:
    for kind, name in (("StatefulSet", "slipher-worker"), ("Deployment", "slipher-monitor")):
        document = one(built(overlay), kind, name)
        (given,) = (each["value"] for each in container(document)["env"] if each["name"] == "SLIPHER_KAFKA")
        settings = json.loads(given)
        assert settings["security.protocol"] == protocol
        (mount,) = (each for each in container(document)["volumeMounts"] if each["name"] == "kafka")
        files = {value for value in settings.values() if value.startswith("/")}
        assert files == {f"{mount['mountPath']}/{key}" for key in keys}
        (volume,) = (each for each in document["spec"]["template"]["spec"]["volumes"] if each["name"] == "kafka")
        assert volume["secret"]["secretName"] == "slipher-kafka"
        assert volume["secret"]["defaultMode"] == 0o440


def test_a_misspelt_key_is_caught() -> None:
    wrong = json.loads(json.dumps(WORKER))
    container(wrong)["readynessProbe"] = container(wrong).pop("readinessProbe")
    with pytest.raises(kubernetes_validate.ValidationError):
        taken(json.dumps(wrong))
