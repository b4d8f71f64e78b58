"""What a broker is put through once, so that its start-up archive holds the classes that real work loads."""

from typing import Any

_TOPIC = "rehearsal"
_TIMEOUT_S = 20.0


def rehearse(bootstrap: str) -> None:
    """Make a topic, write to it in a transaction, read it in both group protocols with committed offsets."""
    from confluent_kafka import Consumer, Producer
    from confluent_kafka.admin import AdminClient
    from confluent_kafka.cimpl import NewTopic

    common: dict[str, Any] = {"bootstrap.servers": bootstrap, "log_level": 0}
    admin = AdminClient(common)
    admin.create_topics([NewTopic(_TOPIC, 1, 1)])[_TOPIC].result(_TIMEOUT_S)
    producer = Producer({**common, "transactional.id": "rehearsal", "compression.type": "lz4"})
    producer.init_transactions(_TIMEOUT_S)
    producer.begin_transaction()
    producer.produce(_TOPIC, b"again")
    producer.commit_transaction(_TIMEOUT_S)
    for protocol in ("classic", "consumer"):
        reader = {"group.protocol": protocol, "group.id": f"rehearsal-{protocol}", "auto.offset.reset": "earliest"}
        consumer = Consumer({**common, **reader})
        try:
            consumer.subscribe([_TOPIC])
            message = consumer.poll(_TIMEOUT_S)
            if message is not None and message.error() is None:
                consumer.commit(message=message, asynchronous=False)
        finally:
            consumer.close()
