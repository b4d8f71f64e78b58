"""A night is closed when all that Kafka received of it is durable: asked of a real broker."""

import datetime as dt
from collections.abc import Callable
from pathlib import Path

import pytest

from schemas.errors import TroubleError
from streamer.broker.server import Broker
from streamer.care.durable import not_durable
from streamer.catalogue import open_catalogue
from tests.streaming import alerts, engine, send, spread
from tests.test_cli_catalog import run

pytestmark = pytest.mark.broker


def test_what_is_behind_is_said_and_its_night_is_left(
    broker: Broker, topic: Callable[..., str], tmp_path: Path
) -> None:
    name, catalog = topic(2), tmp_path / "catalog"
    _, payloads = alerts(40)
    send(broker.bootstrap, name, spread(payloads, 2))
    engine(broker.bootstrap, name, catalog).run()
    catalogue = open_catalogue(catalog)
    model = catalogue.models()["model"][0].as_py()
    before, after = (dt.datetime.now(dt.UTC) + dt.timedelta(hours=h) for h in (-1, 1))
    assert not_durable(catalogue, model, after, broker.bootstrap) == []
    send(broker.bootstrap, name, {1: payloads[:3]})
    assert not_durable(catalogue, model, before, broker.bootstrap) == []
    assert not_durable(catalogue, "another", after, broker.bootstrap) == []
    (said,) = not_durable(catalogue, model, after, broker.bootstrap)
    assert said.startswith(f"partition 1 of {name} is durable to offset 20, and 3 more")
    with pytest.raises(TroubleError):
        not_durable(catalogue, model, after, "127.0.0.1:1")

    # A night that was closed long ago and whose end Kafka has reached is compacted, whoever else is behind later.
    text = run("catalog", "compact", catalog, "--brokers", broker.bootstrap).output
    assert "Nothing to compact. 1 are not closed yet." in text
