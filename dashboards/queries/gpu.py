"""SQL of the GPU board: who a GPU is, which boards were at its place, who held it."""

from __future__ import annotations

from dashboards.holds import JOBS, holds, keyed, with_job
from dashboards.sql import DEVICE_SET, GPU, GPU_10S, IDENTITIES, NOW, SITE, frames, rolled

_NEWEST = f"SELECT site, rack, node, device, board, model FROM {GPU_10S} WHERE {NOW} AND {GPU} ORDER BY ts DESC LIMIT 1"
IDENTITY = (
    "SELECT device, model, node, if(job = '', '(no job)', job) AS job, if(board = '', '(not known)', board) AS board "
    f"FROM ({with_job(_NEWEST, holds())})"
)
#: Boards, and nodes, that stood at the GPU's place in the range.
_BOARDS = f"SELECT DISTINCT board FROM {rolled('gpu')} WHERE $__timeFilter(ts) AND {GPU} AND board != ''"
_NODES = f"SELECT DISTINCT node FROM {rolled('gpu')} WHERE $__timeFilter(ts) AND {GPU} AND node != ''"
#: Sets of devices that have one of those boards: (who, board, rack, device).
_SETS = (
    f"SELECT {DEVICE_SET}, one AS board, site AS at_site, at_rack, at_device FROM {IDENTITIES} FINAL ARRAY JOIN board "
    "AS one, rack AS "
    f"at_rack, device AS at_device WHERE {SITE} AND one IN ({_BOARDS})"
)
#: Frames of a board are found by its racks, then by their sets of devices.
PLACES = (
    "SELECT s.at_site AS site, s.board AS board, s.at_rack AS rack, s.at_device AS device, min(f.first) AS since, "
    "max(f.last) AS until "
    f"FROM (SELECT {DEVICE_SET}, min(ts) AS first, max(ts) AS last FROM {frames('gpu', '${rolled}')} WHERE "
    f"$__timeFilter(ts) AND {SITE} AND rack IN (SELECT at_rack FROM ({_SETS})) AND {DEVICE_SET} IN (SELECT "
    f"{DEVICE_SET} "
    f"FROM ({_SETS})) GROUP BY {DEVICE_SET}) AS f INNER JOIN ({_SETS}) AS s USING ({DEVICE_SET}) "
    "GROUP BY site, board, rack, device ORDER BY since DESC, board LIMIT 50"
)
#: A hold on a MIG instance (UUID/INSTANCE) is one on its board.
_HOLD = (
    f"SELECT * FROM ({keyed(holds('$__fromTime'))}) WHERE key = ${{gpu:singlequote}} OR splitByChar('/', key)[1] IN ({_BOARDS}) OR key IN "
    f"({_NODES}) LIMIT 1 BY scheduler, job, started"
)
HOLDERS = (
    "SELECT h.site AS site, h.job AS job, h.rank AS rank, h.share AS share, j.user AS user, j.account AS account, "
    "h.started AS started, if(toUnixTimestamp(h.ended) = 0, NULL, h.ended) AS until "
    f"FROM ({_HOLD}) AS h LEFT JOIN (SELECT * FROM {JOBS} FINAL WHERE {SITE} ORDER BY submitted DESC LIMIT 1 BY site, "
    "job) AS j ON h.site = j.site AND h.job = j.job ORDER BY started DESC, job LIMIT 50"
)
