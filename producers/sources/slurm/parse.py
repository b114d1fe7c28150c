"""Answers of squeue, sinfo and slurmrestd, Slurm 22.05 to 25.11, as jobs with their holds and nodes with their state.

Pure. Numbers are plain in 22.05 and `{set, infinite, number}` since 23.02; states a word, then a list of words;
`sinfo` gives nodes, then rows of nodes that are alike; slurmrestd gives nodes in all versions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from producers.sources.slurm import gres
from producers.sources.slurm.document import records
from producers.sources.slurm.dump import JobRecord, NodeHold, NodeRecord, SlurmDump
from producers.sources.slurm.fields import mapping, number, optional, string, text, words
from producers.sources.slurm.hostlist import InvalidHostlist, expand, numbers

#: States in which a job has come to its end, and `end_time` is no forecast any more.
_FINAL = frozenset(
    (
        *("COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "DEADLINE"),
        "OUT_OF_MEMORY",
    )
)
ENDED = _FINAL | {"COMPLETING", "STAGE_OUT", "REVOKED"}
#: States in which it holds what it was given. 22.05 gives one word, which may be a flag of RUNNING.
HOLDING = frozenset(("RUNNING", "CONFIGURING", "RESIZING", "SIGNALING", "STOPPED", "POWER_UP_NODE"))
_BASE = _FINAL | {"PENDING", "RUNNING", "SUSPENDED"}
#: A waiting array of more tasks, or one whose list Slurm cuts short, is one job under its own id.
MOST_TASKS = 10_000
_MOST_GPUS = 1 << 30  # of a job: a count that is more is no count


def parse(jobs: str, nodes: str) -> SlurmDump:
    """Returns both answers as one dump. Raises InvalidDump when one of them holds no list at all."""
    refused: Counter[str] = Counter()
    found = parse_nodes(nodes, refused)
    return SlurmDump(parse_jobs(jobs, found, refused), found, refused)


def parse_jobs(document: str, nodes: Mapping[str, NodeRecord], refused: Counter[str]) -> dict[str, JobRecord]:
    """Returns jobs by the id that users know: `1234`, `1234_7` of an array, `1234+1` of a heterogeneous job."""
    found = {}
    for _, record in records(document, "jobs"):
        if not isinstance(record, dict) or not number(record.get("job_id")):
            refused["job-without-id"] += 1
            continue
        try:
            for job in _jobs(record, nodes):
                found[job.job] = job
        except InvalidHostlist:
            refused["job-hostlist"] += 1
    return found


def parse_nodes(document: str, refused: Counter[str]) -> dict[str, NodeRecord]:
    """Returns nodes by name; a node that several partitions share is listed once."""
    found = {}
    for kind, record in records(document, "nodes", "sinfo"):
        if not isinstance(record, dict):
            refused["node-no-record"] += 1
            continue
        try:
            for node in _row(record) if kind == "sinfo" else _node(record):
                found[node.node] = node
        except InvalidHostlist:
            refused["node-hostlist"] += 1
    return found


def _jobs(record: dict[str, Any], nodes: Mapping[str, NodeRecord]) -> list[JobRecord]:
    flags = words(record.get("job_state"))
    state = next((word for word in flags if word in _BASE), flags[0] if flags else "UNKNOWN")
    ended = not ENDED.isdisjoint(flags)
    holding = not ended and state not in ("PENDING", "SUSPENDED") and not HOLDING.isdisjoint(flags)
    hosts = expand(_hosts(record))
    start, end, submit, suspend, resize = (
        number(record.get(name)) * 1000
        for name in ("start_time", "end_time", "submit_time", "suspend_time", "resize_time")
    )
    ran = bool(hosts) and state != "PENDING"  # a waiting job's start is a forecast, a cancelled one's is its end
    holds = _holds(record, hosts, nodes) if holding else ()
    until = end if ended else suspend if state == "SUSPENDED" else submit if state == "PENDING" else 0
    made = JobRecord(
        job=_id(record),
        state=state,
        cluster=text(record, "cluster"),
        user=text(record, "user_name"),
        account=text(record, "account"),
        name=text(record, "name"),
        partition=text(record, "partition"),
        reason="" if (why := text(record, "state_reason")) == "None" else why,
        submitted=submit,
        started=start if ran else 0,
        ended=end if ended and state != "PENDING" else 0,
        since=max(start, suspend, resize) if holding else 0,
        until=until,
        nodes=len(hosts) or number(record.get("node_count")),
        gpus=sum(h.count for h in holds) or min(_wanted(record, len(hosts)), _MOST_GPUS),
        holds=holds,
    )
    tasks = _tasks(record) if state == "PENDING" else ()
    return [replace(made, job=f"{number(record.get('array_job_id'))}_{task}") for task in tasks] or [made]


def _id(record: dict[str, Any]) -> str:
    first, task = number(record.get("array_job_id")), optional(record.get("array_task_id"))
    if first and task is not None:
        return f"{first}_{task}"
    leader = number(record.get("het_job_id"))
    return f"{leader}+{number(record.get('het_job_offset'))}" if leader else str(number(record["job_id"]))


def _tasks(record: dict[str, Any]) -> tuple[int, ...]:
    """The waiting tasks of an array, such as `0-99%10`; none where there are too many or Slurm cuts them short."""
    waiting = text(record, "array_task_string").partition("%")[0]
    if not number(record.get("array_job_id")) or optional(record.get("array_task_id")) is not None or not waiting:
        return ()
    try:
        found = numbers(waiting.strip("[]"))
    except InvalidHostlist:
        return ()
    return found if len(found) <= MOST_TASKS else ()


def _holds(record: dict[str, Any], hosts: tuple[str, ...], nodes: Mapping[str, NodeRecord]) -> tuple[NodeHold, ...]:
    """By node, in the order of the hostlist. Without `gres_detail` (an exclusive job that asked for no GPU) the GPUs
    that Slurm counts for the job spread over its nodes.
    """
    details = record.get("gres_detail")
    entries = [gres.held(string(detail)) for detail in details] if isinstance(details, list) else []
    if any(entries):
        return tuple(_hold(h, e, nodes) for h, e in zip(hosts, entries, strict=False) if e)
    total = gres.allocated(text(record, "tres_alloc_str"))
    sizes = {host: nodes[host].gpus for host in hosts if host in nodes}
    if not total or not any(sizes.values()):
        return ()
    share = total / sum(sizes.values())
    return tuple(
        _hold(host, gres.HeldGpus(max(1, round(size * share)), None), nodes) for host, size in sizes.items() if size
    )


def _hold(host: str, found: gres.HeldGpus, nodes: Mapping[str, NodeRecord]) -> NodeHold:
    if found.indices is not None:
        return NodeHold(host, found.indices, found.count, found.share)
    total = nodes[host].gpus if host in nodes else 0
    if total and found.count < total:
        return NodeHold(host, (), found.count, found.count / total, exact=False)
    return NodeHold(host, (), found.count, exact=found.count == total)


def _wanted(record: dict[str, Any], hosts: int) -> int:
    """The GPUs of a job that holds none now: what it had or asks for."""
    count = hosts or number(record.get("node_count")) or 1
    return (
        gres.allocated(text(record, "tres_alloc_str"))
        or gres.allocated(text(record, "tres_req_str"))
        or gres.requested(text(record, "tres_per_job"))
        or gres.requested(text(record, "tres_per_node")) * count
        or gres.requested(text(record, "tres_per_task")) * (number(record.get("tasks")) or 1)
    )


def _hosts(record: dict[str, Any]) -> str:
    """`nodes`, else `job_resources.nodes`, which is a hostlist and, since 24.05, an object with one."""
    resources = mapping(record, "job_resources")
    found = text(record, "nodes") or text(resources, "nodes") or text(mapping(resources, "nodes"), "list")
    return found.removesuffix("(null)")


def _node(record: dict[str, Any]) -> list[NodeRecord]:
    name = text(record, "name")
    state = _state(words(record.get("state")) + words(record.get("state_flags")))
    used = text(record, "gres_used")
    return [
        NodeRecord(
            node=name,
            state=state,
            reason=text(record, "reason"),
            changed=number(record.get("reason_changed_at")) * 1000,
            gpus=gres.gpus(text(record, "gres")),
            gpus_used=gres.gpus(used) if used else gres.allocated(text(record, "tres_used")),
        )
    ][: bool(name)]


def _row(record: dict[str, Any]) -> list[NodeRecord]:
    """A row of sinfo since 23.02: one node with `--Node`, else nodes that are alike."""
    of_nodes, of_node, resources, why = (mapping(record, name) for name in ("nodes", "node", "gres", "reason"))
    listed = of_nodes.get("nodes")
    names = [listed] if isinstance(listed, str) else listed if isinstance(listed, list) else []
    state = _state(words(of_node.get("state")))
    reason, changed = text(why, "description"), number(why.get("time")) * 1000
    total, used = gres.gpus(text(resources, "total")), gres.gpus(text(resources, "used"))
    return [NodeRecord(name, state, reason, changed, total, used) for name in expand(",".join(map(string, names)))]


def _state(flags: list[str]) -> str:
    """`idle+drain`: the state, and what is more of it, lower case; MAINTENANCE is `maint`, as sinfo has it."""
    unique = dict.fromkeys("maint" if word == "MAINTENANCE" else word.lower() for word in flags)
    return "+".join(unique) or "unknown"
