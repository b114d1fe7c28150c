"""One GPU: its history with its peers' band behind it."""

from __future__ import annotations

from dashboards import panels, variables
from dashboards.board import Board
from dashboards.links import TO_GPU, TO_JOB, TO_RACK
from dashboards.queries.gpu import HOLDERS, IDENTITY, PLACES
from dashboards.sql import GPU, GPU_10S, NOW, RACK, SCORES, metric, reasons, rolled, tdp_w, tiered
from schemas.thresholds import HBM_CRITICAL_C, MARGIN_LOW_C, SCORE_NOTICE

_BAND = ("peers p10", "peers p90")
_COLOURS = {"this GPU": "green", _BAND[0]: "gray", _BAND[1]: "gray", "peers median": "gray"}


def beside(name: str, stat: str = "mean") -> str:
    """This GPU, and the middle eight tenths of the other GPUs of its rack, each of them by its mean over the
    interval.
    """
    other = "device != ${gpu:singlequote}"
    return (
        f'SELECT time, quantileIf(0.1)(value, {other}) AS "{_BAND[0]}", quantileIf(0.9)(value, {other}) AS '
        f'"{_BAND[1]}", quantileIf(0.5)(value, '
        f'{other}) AS "peers median", avgIf(value, not ({other})) AS "this GPU" FROM (SELECT '
        "$__timeInterval(ts) AS time, device, "
        f"avg({metric('gpu', name, stat)}) AS value FROM {tiered('gpu')} WHERE $__timeFilter(ts) AND {RACK} "
        "GROUP BY time, device) GROUP BY time ORDER "
        f"BY time"
    )


def own(columns: str, counters: bool = False) -> str:
    """Columns of this GPU over time; `counters` are of the tiers that have their increases."""
    return (
        f"SELECT $__timeInterval(ts) AS time, {columns} FROM {rolled('gpu') if counters else tiered('gpu')} "
        f"WHERE $__timeFilter(ts) AND {GPU} GROUP BY "
        f"time ORDER BY time"
    )


def now(expression: str, where: str = "") -> str:
    return f"SELECT {expression} AS value FROM {GPU_10S} WHERE {NOW} AND {GPU} ORDER BY ts DESC LIMIT 1"


def board() -> Board:
    """Identity and state; power, heat, work and clocks beside its peers; links, errors, energy."""
    beside_help = "The grey band holds the middle eight tenths of the rack's other GPUs."
    shown = (
        panels.stat(
            "Identity",
            IDENTITY,
            "none",
            "The place and its node, the board that is there now (its UUID), its model, and the job that holds it.",
            span=10,
            text=True,
        ),
        panels.stat(
            "Score",
            f"SELECT max(score) AS value FROM {SCORES} WHERE {NOW} AND {GPU}",
            "none",
            f"Anomaly score of the newest minutes. Above {SCORE_NOTICE:g} is worth a look.",
            panels.SCORES,
            span=2,
            decimals=2,
            empty="normal",
        ),
        panels.gauge(
            "Of TDP",
            now(f"power_w_mean / {tdp_w()}"),
            "percentunit",
            "Power over its model's TDP, newest 10 s: comparable across generations.",
            span=3,
            decimals=0,
        ),
        panels.stat(
            "Margin",
            now("temp_margin_c_mean"),
            panels.unit("gpu", "temp_margin_c"),
            f"Degrees left to T.Limit; below {MARGIN_LOW_C:g} look at its cooling.",
            panels.MARGINS,
            span=3,
            decimals=0,
        ),
        panels.stat(
            "HBM",
            now("mem_temp_c_max"),
            panels.unit("gpu", "mem_temp_c"),
            f"HBM temperature; {HBM_CRITICAL_C:g} C is critical.",
            panels.HBM,
            span=3,
            decimals=0,
        ),
        panels.stat(
            "XID",
            now("xid_max"),
            "none",
            "Last XID since the driver was loaded: it never clears. 0 is none.",
            panels.ANY,
            decimals=0,
        ),
        panels.graph(
            "Power",
            beside("power_w"),
            panels.unit("gpu", "power_w"),
            f"Board power. {beside_help}",
            low=0,
            band=_BAND,
            colours=_COLOURS,
        ),
        panels.graph(
            "Temperature",
            beside("temp_c"),
            panels.unit("gpu", "temp_c"),
            f"Die temperature. Above the band at the same power: bad thermal contact. {beside_help}",
            band=_BAND,
            colours=_COLOURS,
        ),
        panels.graph(
            "SM activity",
            beside("sm_active"),
            panels.unit("gpu", "sm_active"),
            f"Share of time with work on the SMs. Below the band: this GPU slows its job down, or waits. {beside_help}",
            low=0,
            high=1,
            band=_BAND,
            colours=_COLOURS,
        ),
        panels.graph(
            "SM clock",
            beside("sm_clock_mhz"),
            panels.unit("gpu", "sm_clock_mhz"),
            f"Below the band: it is throttled, see the reasons below. {beside_help}",
            low=0,
            band=_BAND,
            colours=_COLOURS,
        ),
        panels.graph(
            "Margin to T.Limit",
            own("min(temp_margin_c_mean) AS margin"),
            panels.unit("gpu", "temp_margin_c"),
            "Degrees left before it slows down.",
            span=8,
            thresholds=panels.MARGINS,
        ),
        panels.graph(
            "HBM temperature",
            own("max(mem_temp_c_max) AS hbm"),
            panels.unit("gpu", "mem_temp_c"),
            "HBM may throttle while the die looks cool.",
            span=8,
            thresholds=panels.HBM,
        ),
        panels.graph(
            "Pipes",
            own(
                "avg(util_pct_mean) / 100 AS busy, avg(tensor_active_mean) AS tensor, avg(dram_active_mean) AS dram, "
                "avg(gr_engine_active_mean) AS engine"
            ),
            "percentunit",
            "Busy time, tensor pipes, memory interface. Busy without tensor work: it waits for data or for others.",
            low=0,
            high=1,
            span=8,
        ),
        panels.graph(
            "NVLink and PCIe",
            own(
                "avg(nvlink_bandwidth_mean) * 1e6 AS nvlink, avg(pcie_tx_bytes_per_s_mean) AS pcie_out, "
                "avg(pcie_rx_bytes_per_s_mean) AS pcie_in"
            ),
            "Bps",
            "Traffic. NVLink that stops while peers go on: a link is down.",
            low=0,
            span=8,
        ),
        panels.graph(
            "Memory",
            own("avg(fb_used_mib_mean) AS used, avg(fb_free_mib_mean) AS free"),
            panels.unit("gpu", "fb_used_mib"),
            "Frame buffer.",
            low=0,
            span=8,
        ),
        panels.graph(
            "Energy",
            own("sum(energy_j_inc) / 3.6e6 AS energy", counters=True),
            "kwatth",
            "Energy of each interval, from the GPU's own counter: "
            "sampled power misses most of the run time, counters do not.",
            low=0,
            span=8,
        ),
        panels.graph(
            "ECC and retries",
            own(
                "sum(ecc_sbe_total_inc) AS corrected, sum(ecc_dbe_total_inc) AS uncorrected, "
                "sum(pcie_replay_total_inc) AS "
                "pcie_replays",
                counters=True,
            ),
            "none",
            "New errors of each interval. Any uncorrected one is a fault; corrected ones that grow are a warning.",
            low=0,
            span=8,
        ),
        panels.states(
            "Throttle reasons",
            "SELECT $__timeInterval(ts) AS time, device, "
            f"{reasons('groupBitOr(toUInt32(ifNull(clock_event_reasons_max, 0)))')} "
            f"AS state FROM {tiered('gpu')} WHERE $__timeFilter(ts) AND {GPU} GROUP BY time, device ORDER BY "
            "time, device",
            "DCGM's clock event reasons, the most severe one.",
            span=8,
            height=8,
        ),
        panels.graph(
            "XID",
            own("max(xid_max) AS xid"),
            "none",
            "The driver's last XID; a step is a new one, which is marked in every graph.",
            low=0,
            span=8,
        ),
        panels.table(
            "Boards at this place",
            PLACES,
            "Which board was here when, and where else those boards were in the range: a board that was swapped or "
            "moved keeps its history under its UUID.",
            span=12,
            height=6,
            links={"device": TO_GPU, "rack": TO_RACK},
            hidden=["site"],
            empty="its source does not name boards",
        ),
        panels.table(
            "Who held it",
            HOLDERS,
            "Jobs that held this GPU in the range: by its name, its board, or with its whole node. A share below 1: "
            "several jobs at a time.",
            span=12,
            height=6,
            links={"job": TO_JOB},
            hidden=["site"],
            decimals={"rank": 0, "share": 2},
            empty="no job",
        ),
        panels.graph(
            "Score over time",
            f"SELECT $__timeInterval(ts) AS time, cause, max(score) AS score FROM {SCORES} WHERE "
            f"$__timeFilter(ts) AND {GPU} "
            f"GROUP BY time, cause ORDER BY time, cause",
            "none",
            "Its anomaly score by cause; nothing while it is normal.",
            low=0,
            high=1,
            span=24,
            height=6,
            thresholds=panels.SCORES,
            empty="none: it is normal",
        ),
    )
    return Board(
        "gpu",
        30,
        "is it like its peers, and since when not",
        "One GPU's history, its peers' band behind it.",
        shown,
        (variables.site(multi=False), variables.rack(), variables.gpu(), *variables.tiers("tier", "rolled")),
        title="GPU",
        incidents=GPU,
        xids=GPU,
        since="now-15m",
        pictures=(("GPU", "gpu.png"),),
    )
