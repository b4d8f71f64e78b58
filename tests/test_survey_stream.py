"""Survey packets through a real Kafka into the catalogue: hosts, flags, refusals, repeated alerts, topics that appear."""

import json
import signal
import uuid
from collections.abc import Callable
from pathlib import Path

import fastavro
import numpy as np
import pyarrow.compute as pc
import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from deltalake import DeltaTable

from models.estimator import load
from schemas.errors import UserError
from schemas.flags import Flag
from schemas.packet_decoder import PacketDecoder
from schemas.surveys import elasticc
from streamer.broker.server import Broker
from streamer.follow import Follower
from streamer.sink.verify import verify
from tests.made_packets import (
    ZTF,
    Known,
    blank,
    container,
    elasticc_alert,
    elasticc_schema,
    framed,
    messages,
    neighbour,
    rubin_schema,
    rubin_schemas,
    ztf_alert,
)
from tests.streaming import (
    durable,
    engine,
    no_worker_outlives_its_test,  # noqa: F401
    send,
    settings,
    small_model,
    wait_until,
    worker,
)
from tests.test_dust_map import NSIDE, write

pytestmark = pytest.mark.broker
Topic = Callable[..., str]
GALAXY = neighbour(1, (20.5, 19.5, 19.0, 18.7), 0.1, 2.0)


def rows(catalog: Path) -> list[dict[str, object]]:
    table = DeltaTable(str(catalog / "rows")).to_pyarrow_table()
    found: list[dict[str, object]] = table.sort_by(
        [("topic", "ascending"), ("kafka_partition", "ascending"), ("kafka_offset", "ascending")]
    ).to_pylist()
    return found


def create(broker: Broker, name: str) -> str:
    """A topic of that name, without waiting for anything."""
    admin = AdminClient({"bootstrap.servers": broker.bootstrap, "log_level": 0})
    admin.create_topics([NewTopic(name, 2, 1)])[name].result(20)
    return name


def ztf_values(first: int, n: int) -> list[bytes]:
    return [container(ZTF, [ztf_alert(first + k, **GALAXY)]) for k in range(n)]


def test_rubin_alerts_are_rows_without_a_redshift(broker: Broker, topic: Topic, tmp_path: Path) -> None:
    name, catalog = topic(1), tmp_path / "catalog"
    schema, other = rubin_schema(11, 0), fastavro.parse_schema(ZTF)
    place = {"diaSource.ra": 53.1, "diaSource.dec": -27.8, "diaSource.midpointMjdTai": 61_234.5}
    alerts = [
        blank(schema, place | {"diaSource.diaSourceId": 70 + k, "diaObject.diaObjectId": 100 + k}) for k in range(3)
    ]
    moving = blank(schema, place | {"diaSource.diaSourceId": 80, "diaObject": None})
    values = [framed(schema, alert, 1100) for alert in [*alerts, moving, alerts[0]]]
    values.insert(2, framed(other, ztf_alert(0), 1200))
    send(broker.bootstrap, name, {0: values})
    (tmp_path / "ztf.avsc").write_text(json.dumps(ZTF))
    files = [f"1100={rubin_schemas() / '11' / '0' / 'lsst.v11_0.alert.avsc'}", f"1200={tmp_path / 'ztf.avsc'}"]
    done = engine(broker.bootstrap, name, catalog, alerts="lsst", schema_file=files).run()
    assert (done.rows, done.messages, done.refused) == (5, 6, 1)
    assert done.reasons == {"LACKS_FIELD": 1}
    assert done.repeated == 1  # alert 70 came again: kept, and counted
    assert verify(catalog).ok
    found = rows(catalog)
    assert [row["object_id"] for row in found] == ["100", "101", "102", "80", "100"]
    assert [row["alert_id"] for row in found] == ["70", "71", "72", "80", "70"]
    for row in found:
        assert row["z_mode"] is None
        assert row["z_best"] is None
        assert row["pdf"] is None
        assert row["ebv"] is None
        flags = Flag(int(row["flags"]))  # type: ignore[call-overload]
        assert flags >= Flag.NO_HOST_PHOTOMETRY | Flag.NO_EBV | Flag.NO_PHOTOMETRY
        assert (Flag.SOLAR_SYSTEM in flags) == (row["object_id"] == "80")
    [refused] = DeltaTable(str(catalog / "exceptions")).to_pyarrow_table().to_pylist()
    assert (refused["offset_start"], refused["reason"]) == (2, "LACKS_FIELD")
    assert refused["text"] == "the writer's schema lacks the field diaSource.ra"


def test_elasticc_alerts_get_the_redshift_of_their_host(broker: Broker, topic: Topic, tmp_path: Path) -> None:
    name, catalog = topic(1), tmp_path / "catalog"
    schema = fastavro.parse_schema(elasticc_schema())
    host = {f"hostgal_mag_{band}": 23.0 - 0.4 * b for b, band in enumerate("ugrizY")}
    host |= {f"hostgal_magerr_{band}": 0.05 for band in "ugrizY"}
    values = [framed(schema, elasticc_alert(k, **host, mwebv=0.01 * k), 5) for k in range(4)]
    values.append(framed(schema, elasticc_alert(9), 5))
    values.append(framed(schema, elasticc_alert(10, **(host | {"hostgal_magerr_u": 999.0})), 5))
    send(broker.bootstrap, name, {0: values})
    (tmp_path / "schema.avsc").write_text(json.dumps(elasticc_schema()))
    engine(broker.bootstrap, name, catalog, alerts="elasticc", schema_file=[f"5={tmp_path / 'schema.avsc'}"]).run()
    found = rows(catalog)
    galaxies, _ = PacketDecoder(elasticc.PACKET, Known(lambda number: elasticc_schema())).decode(messages(values))
    known = load(small_model()).estimate(galaxies)
    np.testing.assert_array_equal([row["z_best"] for row in found[:4]], known.z_best[:4].astype(float))
    np.testing.assert_array_equal([row["ebv"] for row in found[:4]], galaxies.ebv[:4].astype(float))
    assert found[4]["z_best"] is None
    assert int(found[4]["flags"]) & Flag.NO_HOST_PHOTOMETRY  # type: ignore[call-overload]
    assert found[5]["z_best"] is not None
    assert int(found[5]["flags"]) & Flag.BAD_FLUX  # type: ignore[call-overload]


def test_topics_of_a_pattern_are_followed_as_they_appear(broker: Broker, tmp_path: Path) -> None:
    """As ZTF makes them night by night: one more while the worker runs, one that is deleted under it, one not meant."""
    tag, catalog = uuid.uuid4().hex[:8], tmp_path / "catalog"
    nights = [f"ztf_{tag}_2026010{k}_programid1" for k in range(4)]
    create(broker, nights[0])
    create(broker, f"ztf_{tag}_20260100_programid2")
    send(broker.bootstrap, nights[0], {0: ztf_values(0, 12), 1: ztf_values(12, 8)})
    send(broker.bootstrap, f"ztf_{tag}_20260100_programid2", {0: ztf_values(100, 5)})
    dust = write(tmp_path / "map.fits", {"EBV": np.full(12 * NSIDE * NSIDE, 0.07, np.float32)})
    more = ["--alerts", "ztf", "--model", str(small_model("ps1")), "--dust-map", str(dust)]
    running = worker(broker.bootstrap, f"^ztf_{tag}_.*_programid1", catalog, *more)
    wait_until(lambda: durable(catalog) == 20, running)
    create(broker, nights[1])
    send(broker.bootstrap, nights[1], {0: [*ztf_values(20, 15), ztf_values(20, 1)[0]]})
    wait_until(lambda: durable(catalog) == 36, running)
    admin = AdminClient({"bootstrap.servers": broker.bootstrap, "log_level": 0})
    admin.delete_topics([nights[0]])[nights[0]].result(20)
    create(broker, nights[2])
    send(broker.bootstrap, nights[2], {1: [*ztf_values(50, 4), b"no alert"]})
    wait_until(lambda: durable(catalog) == 41, running)
    send(broker.bootstrap, nights[1], {1: ztf_values(60, 3)})
    wait_until(lambda: durable(catalog) == 44, running)
    running.send_signal(signal.SIGTERM)
    said, log = running.communicate(timeout=30)
    assert running.returncode == 0, log
    assert "43 rows of 44 messages are durable, 1 messages refused (1 BAD_FRAMING), 1 repeated alert ids." in said
    assert verify(catalog).ok
    found = rows(catalog)
    assert {row["topic"] for row in found} == set(nights[:3])
    assert len({row["topic_id"] for row in found}) == 3
    assert len({row["processing_id"] for row in found}) == 1
    assert {row["ebv"] for row in found} == {float(np.float32(0.07))}
    assert all(row["z_best"] is not None for row in found)
    assert {row["survey"] for row in found} == {"ps1"}

    # A topic that appears while nobody runs is read from its beginning; nobody has to say so.
    create(broker, nights[3])
    send(broker.bootstrap, nights[3], {0: ztf_values(70, 6)})
    given = settings(
        broker.bootstrap,
        f"^ztf_{tag}_.*_programid1",
        catalog,
        alerts="ztf",
        model=small_model("ps1"),
        dust_map=dust,
        start="",
    )
    wait_until(lambda: _fits(broker, given.topic) == 3)
    done = Follower(given, until_end=True).run()
    assert (done.rows, done.refused) == (6, 0)
    table = DeltaTable(str(catalog / "rows")).to_pyarrow_table()
    assert pc.sum(pc.equal(table["topic"], nights[3])).as_py() == 6
    assert len(table) == 49
    assert verify(catalog).ok


def _fits(broker: Broker, pattern: str) -> int:
    import re

    from streamer.source.connection import TopicNames

    return len(TopicNames({"bootstrap.servers": broker.bootstrap}).fitting(re.compile(pattern)))


def test_a_pattern_that_fits_nothing_or_says_no_beginning(broker: Broker, topic: Topic, tmp_path: Path) -> None:
    name = topic(1)
    with pytest.raises(UserError, match="has no topic that fits"):
        Follower(settings(broker.bootstrap, "^nobody_.*", tmp_path / "catalog"), until_end=True)
    with pytest.raises(UserError, match="say where it begins"):
        Follower(settings(broker.bootstrap, f"^{name}", tmp_path / "catalog", start=""))
