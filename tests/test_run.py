"""From Kafka to the table on a real broker: every message is there once, whatever happens to the workers."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions
from deltalake import DeltaTable

from models.estimator import load
from schemas.encoder import encode_arrow
from streamer.broker.server import Broker
from streamer.catalogue import open_catalogue
from streamer.sink.verify import verify
from tests.streaming import (
    alerts,
    assert_once,
    durable,
    engine,
    finish,
    identities,
    no_worker_outlives_its_test,  # noqa: F401
    send,
    small_model,
    wait_until,
)

pytestmark = pytest.mark.broker
Topic = Callable[..., str]


def test_a_row_is_what_the_model_says(broker: Broker, topic: Topic, tmp_path: Path) -> None:
    """Avro and Arrow, through Kafka and Parquet: the numbers are those of the model on the galaxies, to the bit."""
    name, catalog = topic(2), tmp_path / "catalog"
    galaxies, avro = alerts(300)
    send(broker.bootstrap, name, {0: avro, 1: encode_arrow(galaxies, "lsst", rows=128)})
    done = engine(broker.bootstrap, name, catalog).run()
    assert done.rows == 600
    assert_once(catalog, identities({0: 300}) | {(1, k // 128, k % 128) for k in range(300)})

    rows = DeltaTable(str(catalog / "rows")).to_pyarrow_table()
    estimator = load(small_model())
    known = estimator.estimate(galaxies)
    for partition in (0, 1):
        mine = rows.filter(pa.compute.equal(rows["kafka_partition"], partition))
        mine = mine.sort_by([("kafka_offset", "ascending"), ("kafka_row", "ascending")])
        assert mine["object_id"].to_pylist() == galaxies.object_id.to_pylist()
        for column in ("z_mode", "z_mean", "z_median", "z_best", "z_best_risk", "z_sigma", "z_lo95", "mag_ref"):
            np.testing.assert_array_equal(mine[column].to_numpy(), getattr(known, column), err_msg=column)
        np.testing.assert_array_equal(mine["flags"].to_numpy(), known.flags.astype(np.int32))
        np.testing.assert_array_equal(mine["band_mask"].to_numpy(), known.band_mask.astype(np.int32))
        pdf = mine["pdf"].combine_chunks().flatten().to_numpy().reshape(300, -1)
        np.testing.assert_allclose(pdf, known.pdf, rtol=2**-12, atol=1.1e-5 * known.pdf.max())
        assert len(set(mine["night"].to_pylist())) == 1
        assert set(mine["model"].to_pylist()) == {f"forest-lsst-{mine['processing_id'][0].as_py()[:8]}"}
    models = DeltaTable(str(catalog / "models")).to_pyarrow_table()
    assert models["z_grid"][0].as_py() == estimator.grid.tolist()
    assert models["bundle_sha256"].to_pylist() == [estimator.sha256]


def test_compact_pdfs_are_another_processing_of_the_same_topic(broker: Broker, topic: Topic, tmp_path: Path) -> None:
    """Both forms stand in one catalogue; read through it they are the same PDFs, to half a 255th of the peak."""
    name, catalog = topic(1), tmp_path / "catalog"
    _, values = alerts(200)
    send(broker.bootstrap, name, {0: values})
    for form in ("plain", "compact"):
        assert engine(broker.bootstrap, name, catalog, pdf=form).run().rows == 200
    report = verify(catalog)
    assert report.ok, report.lines()
    held = open_catalogue(catalog)
    stored = DeltaTable(str(catalog / "rows")).to_pyarrow_table()
    nulls = {m: stored.filter(pa.compute.equal(stored["model"], m)) for m in held.info().models}
    assert sorted((t["pdf"].null_count, t["pdf_u8"].null_count) for t in nulls.values()) == [(0, 200), (200, 0)]
    pdfs = []
    for model in nulls:
        rows = held.scan(["kafka_offset", "pdf"], model=model).read_all().sort_by("kafka_offset")
        pdfs.append(rows["pdf"].combine_chunks().flatten().to_numpy().reshape(200, -1))
    error = np.abs(pdfs[0] - pdfs[1]) / pdfs[0].max(axis=1, keepdims=True)
    assert 0 < error.max() < 0.51 / 255 + 0.01  # and what it takes to integrate to 1


def test_transactions(broker: Broker, topic: Topic, tmp_path: Path) -> None:
    """Aborted alerts are no alerts; markers are listed as ranges; the durable offset reaches the end of the log."""
    name, catalog = topic(1), tmp_path / "catalog"
    _, values = alerts(30)
    producer = Producer({"bootstrap.servers": broker.bootstrap, "transactional.id": name})
    producer.init_transactions(20)
    for start, commits in ((0, True), (10, False), (20, True)):
        producer.begin_transaction()
        for value in values[start : start + 10]:
            producer.produce(name, value, partition=0)
        producer.flush()
        producer.commit_transaction(20) if commits else producer.abort_transaction(20)
    finish(broker, name, catalog)
    # 10 rows, marker, 10 aborted, marker, 10 rows, marker
    assert_once(
        catalog,
        {(0, o, 0) for o in [*range(10), *range(22, 32)]},
        {(0, o, -1) for o in [*range(10, 22), 32]},
    )
    assert durable(catalog) == 33


def test_what_retention_took_is_said(broker: Broker, topic: Topic, tmp_path: Path) -> None:
    name, catalog = topic(1), tmp_path / "catalog"
    _, values = alerts(100)
    send(broker.bootstrap, name, {0: values[:40]})
    finish(broker, name, catalog)
    send(broker.bootstrap, name, {0: values[40:]})
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    for future in admin.delete_records([TopicPartition(name, 0, 70)]).values():
        future.result(20)
    finish(broker, name, catalog)
    gap = range(40, 70)
    assert_once(catalog, {(0, o, 0) for o in range(100) if o not in gap}, {(0, o, -1) for o in gap})
    table = DeltaTable(str(catalog / "exceptions")).to_pyarrow_table()
    assert table.select(["offset_start", "offset_end", "reason"]).to_pylist() == [
        {"offset_start": 40, "offset_end": 70, "reason": "RETENTION_GAP"}
    ]


def test_a_partition_is_added(broker: Broker, topic: Topic, tmp_path: Path) -> None:
    """It is read from its first offset, though the run began elsewhere; what of it expired meanwhile is listed."""
    name, catalog = topic(1), tmp_path / "catalog"
    _, values = alerts(60)
    send(broker.bootstrap, name, {0: values[:20]})
    engine(broker.bootstrap, name, catalog, start="latest").run()
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    for future in admin.create_partitions([NewPartitions(name, 2)]).values():
        future.result(20)
    wait_until(lambda: len(admin.list_topics(name, timeout=5).topics[name].partitions) == 2)
    send(broker.bootstrap, name, {0: values[20:40], 1: values[40:]})
    for taken in admin.delete_records([TopicPartition(name, 1, 5)]).values():
        taken.result(20)
    engine(broker.bootstrap, name, catalog, start="latest").run()
    gap = {(1, o, -1) for o in range(5)}
    assert_once(catalog, {(0, o, 0) for o in range(20, 40)} | {(1, o, 0) for o in range(5, 20)}, gap)


def test_a_second_model_goes_on_beside_the_first(broker: Broker, topic: Topic, tmp_path: Path) -> None:
    """``--start after:MODEL``: its rows begin where the other stands, and neither touches the other's."""
    from models import bundle as bundles

    name, catalog = topic(1), tmp_path / "catalog"
    _, values = alerts(80)
    send(broker.bootstrap, name, {0: values[:50]})
    finish(broker, name, catalog)
    first = DeltaTable(str(catalog / "models")).to_pyarrow_table()["model"][0].as_py()
    other = bundles.read(small_model())
    bundles.write(
        bundles.seal({**other.card, "alpha": other.card["alpha"] + 0.25}, other.tensors), tmp_path / "b.slipher"
    )
    send(broker.bootstrap, name, {0: values[50:]})
    engine(broker.bootstrap, name, catalog, start=f"after:{first}", model=tmp_path / "b.slipher").run()
    finish(broker, name, catalog)
    rows = DeltaTable(str(catalog / "rows")).to_pyarrow_table(columns=["model", "kafka_offset"])
    offsets = {m: [] for m in set(rows["model"].to_pylist())}
    for model, offset in zip(rows["model"].to_pylist(), rows["kafka_offset"].to_pylist(), strict=True):
        offsets[model].append(offset)
    assert {m: sorted(o) for m, o in offsets.items()} == {
        m: list(range(80)) if m == first else list(range(50, 80)) for m in offsets
    }
    assert len(offsets) == 2
