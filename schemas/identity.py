"""Who a row of telemetry is about, and the version of the wire form that carries it."""

#: Of frames and derived messages: `gigawatch: 3/<kind>` in their Arrow schema.
VERSION = 3

#: The identity columns, after `ts` and before the metrics. `board` is who a device is: its UUID, serial or asset id; an
#: instance of a board (MIG) is `UUID/INSTANCE`; empty for a device that has none and is known by its place alone.
#: `site`, `rack`, `node` and `device` are its place and its name there, which may change; `model` is the GPU, CPU or
#: DPU model or the type of facility equipment (`rack-meter`, `rack-loop`, `cdu`, ...).
IDENTITY = ("site", "rack", "node", "device", "model", "board")

#: What a device is known by: (site, board), or (site, rack, device) where it has no board.
DeviceKey = tuple[str, str] | tuple[str, str, str]


def device_key(site: str, rack: str, device: str, board: str) -> DeviceKey:
    """Returns what tells the device apart from every other of its kind."""
    return (site, board) if board else (site, rack, device)
