"""The sink's clients of Kafka."""

from __future__ import annotations

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from pipeline import kafka

GROUP = "gigawatch-sink"


class Clients:
    """Makes a consumer of the group and a producer for dead letters; tests make others."""

    def __init__(self, bootstrap: str, group: str) -> None:
        self._bootstrap, self._group = bootstrap, group

    def consumer(self) -> AIOKafkaConsumer:
        return AIOKafkaConsumer(**kafka.consumer_options(self._bootstrap, self._group))

    def producer(self) -> AIOKafkaProducer:
        return AIOKafkaProducer(**kafka.client_options(self._bootstrap), acks="all", max_request_size=32 << 20)
