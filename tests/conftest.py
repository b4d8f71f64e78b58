"""What the tests share: one Apache Kafka a run and topics on it that no other test knows, one schema registry a run."""

import itertools
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from hypothesis import settings

from schemas.errors import TroubleError
from streamer.broker.apicurio import SchemaRegistry, unpacked
from streamer.broker.server import Broker
from streamer.broker.settings import SHORT_SESSIONS, BrokerSettings

# CI asks whether this change is sound, with the same examples each time; a person's runs go on looking for new ones.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")
os.environ["SLIPHER_CONFIG"] = os.devnull  # whatever slipher.toml a person has in this directory, tests do not read it


@pytest.fixture(scope="session")
def broker() -> Iterator[Broker]:
    """A broker with short sessions, started for the first test that wants one. It is never skipped: without it, an error."""
    with Broker(BrokerSettings(properties=SHORT_SESSIONS)) as running:
        yield running


@pytest.fixture(scope="session")
def schema_registry() -> Iterator[SchemaRegistry]:
    """An Apicurio, started for the first test that wants one; at home skipped where it cannot be downloaded (159 MB)."""
    try:
        unpacked()
    except TroubleError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    with SchemaRegistry() as running:
        yield running


# The files that take longest, longest first: else one worker of pytest ends with one of them, and the others wait for it.
# fmt: off
LONGEST = [
    "avro_fuzz", "demo", "faults_kafka", "broker", "replay", "training", "backfill", "stalls", "run_trouble",
    "faults", "faults_care", "image_networks", "blend", "store", "retry", "lag_cli", "sky", "evaluate_cli", "doctor",
    "rebalances", "image_worker", "train_images", "ledger", "compaction", "cli_train", "lanes", "soak", "together",
    "monitor_web", "registry", "faults_storage", "registry_stream", "survey_stream", "supervisor", "memory",
    "publish",
]
# fmt: on


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole files in the order of `LONGEST`, then those with most tests. (pytest-xdist hands them out in this order.)"""
    tests = Counter(item.path for item in items)
    rank = {f"test_{name}": k for k, name in enumerate(LONGEST)}
    items.sort(key=lambda item: (rank.get(item.path.stem, len(rank)), -tests[item.path]))
    for item in items:
        if "dc2_bundle" in getattr(item, "fixturenames", ()):  # trains the default forest, or waits for who does
            item.add_marker(pytest.mark.timeout(400))


_numbers = itertools.count()


@pytest.fixture
def topic(broker: Broker, request: pytest.FixtureRequest) -> Callable[..., str]:
    """Make topics: ``topic(partitions=3, retention_ms=1000)`` returns the name of one that clients can use at once."""
    from confluent_kafka.admin import AdminClient
    from confluent_kafka.cimpl import NewTopic

    admin = AdminClient({"bootstrap.servers": broker.bootstrap, "log_level": 0})

    def make(partitions: int = 1, **config: object) -> str:
        test = "".join(c if c.isalnum() else "-" for c in request.node.name)[:80]
        name = f"{test}-{os.getpid()}-{next(_numbers)}"
        settings = {key.replace("_", "."): str(value) for key, value in config.items()}
        admin.create_topics([NewTopic(name, partitions, 1, config=settings)])[name].result(20)
        deadline = time.monotonic() + 20
        while True:  # the topic exists; a client must also be told who leads each partition
            seen = admin.list_topics(name, timeout=5).topics[name]
            if (
                seen.error is None
                and len(seen.partitions) == partitions
                and all(p.leader >= 0 for p in seen.partitions.values())
            ):
                return name
            assert time.monotonic() < deadline, f"{name} has no leaders"
            time.sleep(0.02)

    return make
