"""What a process says of itself, judged: is it alive, is it ready, and why not. Pure: the time is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: A process that says nothing for so long does not run its loop: it is started again.
STALL_S = 30.0
COMMIT_AGE_S = 60.0
SILENT_KAFKA_S = 15.0
SPOOL_RED = 0.8

ProcessStatus = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Health:
    """`live`: its loop runs. `ready`: it does its work. `why` it is not, a sentence each."""

    live: bool
    ready: bool
    why: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "ready" if self.ready else "; ".join(self.why)


def judge(kind: str, said: ProcessStatus, now: float) -> Health:
    """`kind`: producer, stream or sink; `said`: its status; `now`: seconds since 1970."""
    if not said:
        return Health(False, False, ("it has said nothing yet",))
    age = now - float(said.get("at", 0.0))
    if age > STALL_S:
        return Health(False, False, (f"no word from it for {age:.0f} s",))
    why = list({"producer": _producer, "stream": _stream, "sink": _sink}[kind](said, now))
    return Health(True, not why, tuple(why))


def _producer(said: ProcessStatus, now: float) -> list[str]:
    why = []
    waiting = said.get("waiting_s") or 0.0
    if waiting > SILENT_KAFKA_S:
        why.append(f"Kafka has acknowledged nothing for {waiting:.0f} s")
    spool = said.get("spool") or {}
    if spool.get("limit") and spool["bytes"] > SPOOL_RED * spool["limit"]:
        why.append(
            f"the spool holds {spool['bytes'] >> 20} of {spool['limit'] >> 20} MB: when it is full the oldest "
            "samples are dropped"
        )
    if spool.get("dropped_rows"):
        why.append(f"{spool['dropped_rows']} rows were dropped from a full spool")
    return why


def _stream(said: ProcessStatus, _: float) -> list[str]:
    return (
        []
        if said.get("assigned")
        else ["it has no partitions (yet): it is joining its group, or there are more workers than partitions"]
    )


def _sink(said: ProcessStatus, now: float) -> list[str]:
    why = []
    if not said.get("assigned"):
        why.append("it has no partitions (yet): it is joining its group, or there are more sinks than partitions")
    if said.get("trouble"):
        why.append(str(said["trouble"]))
    age = now - float(said.get("last_commit") or now)
    if said.get("buffered_bytes") and age > COMMIT_AGE_S:
        why.append(f"nothing was committed for {age:.0f} s, with {said['buffered_bytes'] >> 20} MB in hand")
    return why
