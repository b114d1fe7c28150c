"""Questions about assets: what a name is, and the state of each now."""

from __future__ import annotations

from schemas.inventory import OPERATOR, SEEN
from schemas.tables import DATABASE

_NEVER = "toDateTime64(0, 3, 'UTC')"
_VALID = f"valid_from <= now64(3) AND (valid_to = {_NEVER} OR valid_to > now64(3))"
_PLACE = ("kind", "model", "rack", "node", "device")

#: What was heard, with where in it `name` is a node, and a device or its board; a rack's own frames name it once.
_HEARD = (
    "(SELECT *, indexOf(node, {name:String}) AS at_node, if(has(device, {name:String}), indexOf(device, "
    f"{{name:String}}), indexOf(board, {{name:String}})) AS at_device FROM {DATABASE}.identities) AS i"
)
_RACK = "i.rack[if(length(i.rack) = length(i.node), greatest(at_node, at_device), 1)]"

#: Who `name` is, at `site` or at any: (site, kind, model, rack, node, device) of what the inventory knows by that name,
#: else of what was heard there. One row a site; a rack before a node before a device.
KNOWN_AS = (
    "SELECT site, kind, model, rack, node, device FROM ("
    f"SELECT site, {', '.join(f'argMax({n}, (known, valid_from)) AS {n}' for n in _PLACE)}, max(known) AS best FROM ("
    f"SELECT site, {', '.join(_PLACE)}, valid_from, 9 - multiIf(asset = {{name:String}}, 0, device = {{name:String}}, "
    f"1, 2) AS known FROM {DATABASE}.assets FINAL WHERE origin != '{OPERATOR}' AND (asset = {{name:String}} OR "
    "(device = {name:String} AND device != '')) UNION ALL "
    f"SELECT i.site, 'rack', '', {{name:String}}, '', '', {_NEVER}, 5 FROM {_HEARD} WHERE has(i.rack, {{name:String}}) "
    f"UNION ALL SELECT i.site, 'node', '', {_RACK}, {{name:String}}, '', {_NEVER}, 4 FROM {_HEARD} "
    f"WHERE at_node > 0 UNION ALL SELECT i.site, '', i.model[at_device], {_RACK}, i.node[at_device], "
    f"i.device[at_device], {_NEVER}, 3 FROM {_HEARD} WHERE at_device > 0"
    ") GROUP BY site) WHERE {site:String} = '' OR site = {site:String} ORDER BY site"
)

#: What counts of the rows of one asset: an operator's, then a declared one, then one that was seen; then the newest.
_RANK = f"(origin = '{OPERATOR}', origin != '{SEEN}', valid_from, seen)"
_NOW = (
    f"SELECT site AS s, asset AS a, {', '.join(f'argMax({n}, {_RANK}) AS n_{n}' for n in ('state', 'origin'))}, "
    f"argMax(reason, {_RANK}) AS n_reason, argMax(valid_to, {_RANK}) AS n_to "
    f"FROM {DATABASE}.assets FINAL WHERE {_VALID} GROUP BY s, a"
)
_OUT = f"SELECT * FROM ({_NOW}) WHERE n_state != 'active'"
_PLACES = (
    f"SELECT site, asset, {', '.join(f'argMax({n}, ({n} != {chr(39) * 2}, valid_from)) AS {n}' for n in _PLACE)} "
    f"FROM {DATABASE}.assets FINAL WHERE {_VALID} GROUP BY site, asset"
)


def _effective(column: str, own: str) -> str:
    """The asset's own, unless it is active and its node or rack is not."""
    return (
        f"multiIf(o.n_state != 'active', o.{own}, n.n_state != '', n.{own}, r.n_state != '', r.{own}, o.{own}) "
        f"AS {column}"
    )


#: Assets with their state now, of a `place`, name or kind and a `state` where these are given; out of service first.
#: What an operator or an inventory states of a node or rack holds for what is in it.
ASSETS_NOW = (
    "SELECT site, kind, asset, rack, node, device, state, by, if(toUnixTimestamp(until) = 0, '', toString(until)) AS "
    "until, reason FROM (SELECT p.site AS site, p.kind AS kind, p.asset AS asset, p.rack AS rack, p.node AS node, "
    f"p.device AS device, {_effective('state', 'n_state')}, {_effective('by', 'n_origin')}, "
    f"{_effective('until', 'n_to')}, {_effective('reason', 'n_reason')} FROM ({_PLACES}) AS p "
    f"INNER JOIN ({_NOW}) AS o ON p.site = o.s AND p.asset = o.a "
    f"LEFT ANY JOIN ({_OUT}) AS n ON p.site = n.s AND p.node = n.a "
    f"LEFT ANY JOIN ({_OUT}) AS r ON p.site = r.s AND p.rack = r.a) "
    "WHERE ({state:String} = '' OR state = {state:String}) AND "
    "({place:String} = '' OR has([asset, kind, rack, node, device], {place:String})) "
    "ORDER BY state = 'active', site, rack, node, device, asset LIMIT {limit:UInt32}"
)
