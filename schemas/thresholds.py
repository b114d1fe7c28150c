"""Thresholds, declared once for detectors, dashboards, alerts and the terminal, each with its source."""

from __future__ import annotations

#: Coolant heat over rack power: NVIDIA's recorded facility trace closes at 0.93 to 0.95 on every loaded rack; further
#: off than this, something lies.
HEAT_BALANCE, HEAT_BALANCE_OFF = 0.94, 0.09
#: Standard deviation of the heat balance among healthy racks.
HEAT_BALANCE_SIGMA = 0.03
#: W of rack power below which a rack is idle and its heat balance means nothing.
RACK_LOADED_W = 5000.0
#: Share of provisioned power above which a rack works, so that its flow for each kW means something.
RACK_WORKS_SHARE = 0.2
#: Share of a window's ticks that must be there before it is judged: a half-filled one may hold only the rise of a load
#: step.
WINDOW_COVERAGE = 0.75
#: L/min a kW: OCP's design range starts at 1.25, NVIDIA's trace has 1.11 to 1.52; below this the coolant rises by more
#: than 16.7 K (PG25, 3.9 kJ/L/K).
LPM_PER_KW_LEAST, LPM_PER_KW_DESIGN = 0.92, 1.25
#: K of rise: OCP's design is at most 10, NVIDIA's trace goes to 13.9.
DELTA_T_HIGH_K, DELTA_T_TOO_HIGH_K = 14.0, 17.0
#: Margin to T.Limit, C: slow-down below zero (GH200 BMC: caution 0, slow-down -2, shutdown -8).
MARGIN_CAUTION_C, MARGIN_LOW_C = 0.0, 10.0
#: HBM, C: upper critical 95 on GH200's BMC.
HBM_WARM_C, HBM_CRITICAL_C = 85.0, 95.0
#: K above the median of its rack's GPUs that no healthy GPU reaches under the same load (silicon and cold plates differ
#: by some 4 K).
HOTTER_THAN_PEERS_K = 12.0
#: GPUs of a job in a rack that make a median to compare with.
PEERS_LEAST = 4
#: Share of its job's median activity below which a GPU drags the job.
STRAGGLER_SHARE = 0.8
#: SM activity of a job's median GPU (ratio) below which the job is idle and nobody drags it.
JOB_ACTIVE_LEAST = 0.1
#: Utilization below which a GPU that a job holds idles, %.
IDLE_PCT = 5.0
#: Share of the last samples with a hardware clock event reason above which a GPU is throttled.
THROTTLED_SHARE = 0.9
#: Anomaly scores: worth a look, and worth an incident. An incident opens at SCORE_BAD and closes below SCORE_NOTICE.
SCORE_NOTICE, SCORE_BAD = 0.3, 0.6
#: PUE: AI factories plan 1.1 to 1.3.
PUE_HIGH, PUE_TOO_HIGH = 1.3, 1.5
#: Share of provisioned power or of a breaker's rating: US practice loads breakers to 80 % (NEC 210.20, continuous
#: load).
LOAD_HIGH, LOAD_TOO_HIGH = 0.8, 0.95
#: Seconds from a sample until it can be queried: slow, and late.
FRESH_SLOW_S, FRESH_LATE_S = 10.0, 30.0
#: DCGM's clock event reasons that slow a GPU down against its will: HW slowdown, HW thermal, HW power brake; and
#: software's thermal limit.
THROTTLE_HW, THROTTLE_SW_THERMAL, THROTTLE_POWER_CAP, THROTTLE_IDLE = 0x8 | 0x40 | 0x80, 0x20, 0x4, 0x1
