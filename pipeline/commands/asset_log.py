"""What operators declare of assets, in the log: written and read there, since the store is seconds behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import pyarrow.compute as pc
from aiokafka import AIOKafkaProducer

from pipeline import kafka
from schemas import derived
from schemas.codec import InvalidFrame
from schemas.derived_stream import columns_of
from schemas.inventory import ASSET, OPERATOR


@dataclass(frozen=True, slots=True)
class Declaration:
    """A row of ASSET of an operator; moments in ms since 1970, `valid_to` 0 without end. `kind` and the place are what
    is known of the asset, or empty.
    """

    site: str
    asset: str
    kind: str = ""
    model: str = ""
    rack: str = ""
    node: str = ""
    device: str = ""
    state: str = "active"
    reason: str = ""
    seen: int = 0
    valid_from: int = 0
    valid_to: int = 0

    def within(self, now_ms: int, from_ms: int, to_ms: int, state: str, why: str) -> Declaration:
        return replace(self, seen=now_ms, valid_from=from_ms, valid_to=to_ms, state=state, reason=why)

    def lasts(self, ms: int) -> bool:
        """Whether it is valid at `ms` or later."""
        return not self.valid_to or self.valid_to > ms

    def ended(self, end_ms: int, now_ms: int) -> Declaration:
        """The same with its end; one that has not begun by then was never valid."""
        return replace(self, valid_to=max(end_ms, self.valid_from), seen=now_ms)

    def columns(self) -> dict[str, object]:
        given = {name: getattr(self, name, "") for name in ASSET.names}
        return given | {"origin": OPERATOR}


async def publish(bootstrap: str, rows: Sequence[Declaration]) -> None:
    """Writes the rows as one message. Raises BrokerError and KafkaError."""
    if not rows:
        return
    await kafka.ensure_topics(bootstrap)
    producer = AIOKafkaProducer(**kafka.client_options(bootstrap), acks="all")
    try:
        with kafka.explained(bootstrap):
            await producer.start()
        value = ASSET.encode(ASSET.build_rows([row.columns() for row in rows]))
        await producer.send_and_wait(ASSET.topic, value, partition=0)
    finally:
        await producer.stop()


async def declared(bootstrap: str, name: str, site: str) -> list[Declaration]:
    """Returns what operators have declared of `name`, at `site` or at any; the last row of each beginning counts.

    Reads the topic of the assets from its beginning. Raises BrokerError and KafkaError.
    """
    await kafka.ensure_topics(bootstrap)
    found: dict[tuple[str, int], Declaration] = {}
    for record in (await kafka.read_whole(bootstrap, ASSET.topic))[0]:
        for each in _of(record.value, name):
            found[each.site, each.valid_from] = each
    return [each for each in found.values() if not site or each.site == site]


def _of(message: bytes, name: str) -> list[Declaration]:
    """Returns the declarations of `name` in a message; none where it cannot be read, which the sink reports."""
    try:
        stream, batch = derived.decode(message)
    except InvalidFrame:
        return []
    if stream is not ASSET:
        return []
    mine = batch.filter(pc.and_(pc.equal(batch.column("asset"), name), pc.equal(batch.column("origin"), OPERATOR)))
    names = [field.name for field in fields(Declaration)]
    return [Declaration(**dict(zip(names, row, strict=True))) for row in zip(*columns_of(mine, *names), strict=True)]
