"""Clients of Kafka."""

from tests.integration.clients.client_setup import TIMEOUT, ClientSetup, Situation, timeout
from tests.integration.clients.servers import drop, hang, serving
from tests.integration.clients.wire import kafka as wire

_TOPIC = "provoked"

_BEHAVIOURS = {
    Situation.UNAVAILABLE: wire.answering(produce=8),  # BROKER_NOT_AVAILABLE
    Situation.DROPPING: drop,
    Situation.HANGING: hang,
    Situation.CUTTING: wire.cutting,
}

_OUTAGES = {
    "a message that hangs": wire.hanging_messages,
    "5 LEADER_NOT_AVAILABLE": wire.answering(topic=5),
    "6 NOT_LEADER_FOR_PARTITION": wire.answering(produce=6),
    "7 REQUEST_TIMED_OUT": wire.answering(produce=7),
    "-1 UNKNOWN_SERVER_ERROR": wire.answering(produce=-1),
    "19 NOT_ENOUGH_REPLICAS": wire.answering(produce=19),
    "20 NOT_ENOUGH_REPLICAS_AFTER_APPEND": wire.answering(produce=20),
    "56 KAFKA_STORAGE_ERROR": wire.answering(produce=56),
}

_REFUSALS = {
    "10 MESSAGE_TOO_LARGE": wire.answering(produce=10),
    "2 CORRUPT_MESSAGE": wire.answering(produce=2),
    "17 INVALID_TOPIC_EXCEPTION": wire.answering(produce=17),
    "29 TOPIC_AUTHORIZATION_FAILED": wire.answering(produce=29),
    "31 CLUSTER_AUTHORIZATION_FAILED": wire.answering(produce=31),
    "44 POLICY_VIOLATION": wire.answering(produce=44),
    "87 INVALID_RECORD": wire.answering(produce=87),
}

# aiokafka raises UnknownTopicOrPartitionError for a topic whose leader is being elected, and
# UnknownError, the one of a broken broker, for a number that it has no name for.
_OUTAGES_OF_AIOKAFKA = {
    name: behaviour for name, behaviour in _OUTAGES.items() if name != "5 LEADER_NOT_AVAILABLE"
}
_REFUSALS_OF_AIOKAFKA = {
    name: behaviour for name, behaviour in _REFUSALS.items() if name != "87 INVALID_RECORD"
}


def _milliseconds():
    return int(timeout() * 1000)


def _kafka_python(host, port):
    producer = _producer(host, port)
    try:
        producer.send(_TOPIC, b"x").get(timeout=10 * timeout())
    finally:
        producer.close(timeout=0)


def _producer(host, port):
    import kafka

    return kafka.KafkaProducer(
        bootstrap_servers=f"{host}:{port}",
        bootstrap_timeout_ms=_milliseconds(),
        request_timeout_ms=_milliseconds(),
        delivery_timeout_ms=2 * _milliseconds(),
        max_block_ms=_milliseconds(),
        enable_idempotence=False,
        retries=0,
        acks=1,
    )


def _kafka_python_closed(host, port):
    with serving(wire.answering()) as server:
        producer = _producer(host, server.port)
        producer.close(timeout=0)
        producer.send(_TOPIC, b"x")


async def _aiokafka(host, port):
    import aiokafka

    producer = aiokafka.AIOKafkaProducer(
        bootstrap_servers=f"{host}:{port}", request_timeout_ms=_milliseconds(), acks=1
    )
    try:
        await producer.start()
        await producer.send_and_wait(_TOPIC, b"x")
    finally:
        await producer.stop()


async def _aiokafka_closed(host, port):
    import aiokafka

    with serving(wire.answering()) as server:
        producer = aiokafka.AIOKafkaProducer(bootstrap_servers=f"{host}:{server.port}")
        await producer.start()
        await producer.stop()
        await producer.send_and_wait(_TOPIC, b"x")


async def _aiokafka_wrong_argument(host, port):
    import aiokafka

    aiokafka.AIOKafkaProducer(bootstrap_servers=f"{host}:{port}", acks="some")


def _confluent_full_queue(host, port):
    import confluent_kafka

    settings = {"bootstrap.servers": f"{host}:{port}", "log_level": 0}
    producer = confluent_kafka.Producer(settings | {"queue.buffering.max.messages": 1})
    try:
        producer.produce(_TOPIC, b"x")
        producer.produce(_TOPIC, b"x")
    finally:
        producer.purge()
        producer.flush(TIMEOUT)


def _confluent_wrong_setting(host, port):
    import confluent_kafka

    confluent_kafka.Producer({"no.such.setting": 1})


def _confluent(host, port):
    import confluent_kafka

    reported = []
    producer = confluent_kafka.Producer(
        {
            "bootstrap.servers": f"{host}:{port}",
            "socket.timeout.ms": _milliseconds(),
            "message.timeout.ms": 2 * _milliseconds(),
            "retries": 0,
            "acks": 1,
            "log_level": 0,
        }
    )
    producer.produce(_TOPIC, b"x", on_delivery=lambda error, _: reported.append(error))
    producer.flush(10 * timeout())
    # What the library's own documentation does with an error that was reported.
    if reported and reported[0] is not None:
        raise confluent_kafka.KafkaException(reported[0])


SETUPS = (
    ClientSetup(
        name="kafka-python",
        distributions=("kafka-python",),
        call=_kafka_python,
        behaviours=_BEHAVIOURS,
        outages=_OUTAGES,
        refusals=_REFUSALS,
        misuse={"closed producer": _kafka_python_closed},
    ),
    ClientSetup(
        name="aiokafka",
        distributions=("aiokafka",),
        call=_aiokafka,
        behaviours=_BEHAVIOURS,
        outages=_OUTAGES_OF_AIOKAFKA,
        refusals=_REFUSALS_OF_AIOKAFKA,
        misuse={"closed producer": _aiokafka_closed, "wrong argument": _aiokafka_wrong_argument},
    ),
    ClientSetup(
        name="confluent-kafka",
        distributions=("confluent-kafka",),
        call=_confluent,
        behaviours=_BEHAVIOURS,
        outages=_OUTAGES,
        refusals=_REFUSALS,
        misuse={"full queue": _confluent_full_queue, "wrong setting": _confluent_wrong_setting},
    ),
)
