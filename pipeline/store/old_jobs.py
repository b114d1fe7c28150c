"""What a store of version 1 knows of jobs, as allocations: there the job was part of who a device is."""

from __future__ import annotations

from pipeline.store.tables import TABLES
from schemas.jobs import LABELS
from schemas.tables import DATABASE

#: Tables of GPU frames and the seconds that end with a row of them, the finest first.
_TIERS = (("gpu", 0), ("gpu_10s", 10), ("gpu_1m", 60), ("gpu_1h", 3600))


def allocations(cluster: str = "") -> str:
    """The INSERT of one row a (site, rack, node, job), with its devices, from its first to its last sample.

    The finest table knows a job's end best. It knows the beginning only while it still keeps it, that is where it
    agrees with the coarser ones to the hour.
    """
    spread = "GLOBAL " if cluster else ""
    people = f"{DATABASE}.identities WHERE arrayExists(j -> j != '', job)"
    spans = " UNION ALL ".join(
        f"SELECT who, {width} AS width, min(ts) - INTERVAL {width} SECOND AS first, max(ts) AS last FROM "
        f"{DATABASE}.{TABLES[name].stored_as} WHERE who {spread}IN (SELECT who FROM {people}) GROUP BY who"
        for name, width in _TIERS
    )
    times = (
        "SELECT who, argMin(last, width) AS ended, arrayMin(groupArray(first)) AS earliest, "
        "arrayMin(arrayFilter(s -> s.2 < earliest + INTERVAL 1 HOUR, groupArray((width, first)))).2 AS started "
        f"FROM ({spans}) GROUP BY who"
    )
    return (
        f"INSERT INTO {DATABASE}.allocations (seen, site, scheduler, job, rack, node, devices, share, first_rank, "
        "started, ended) "
        f"SELECT max(t.ended) AS until, i.site, '{LABELS}', i.one_job, i.one_rack, i.one_node, "
        "arraySort(groupUniqArray(i.one_device)), 1, 0, min(t.started), until "
        "FROM (SELECT who, site, one_rack, one_node, one_device, one_job FROM "
        f"(SELECT * FROM {people}) ARRAY JOIN rack AS one_rack, node AS one_node, device AS one_device, job AS one_job "
        f"WHERE one_job != '') AS i {spread}INNER JOIN ({times}) AS t ON i.who = t.who "
        "GROUP BY i.site, i.one_rack, i.one_node, i.one_job"
    )
