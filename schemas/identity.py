"""Who a row of telemetry is about, and the version of the wire form that carries it."""

#: Of frames and derived messages: `gigawatch: 2/<kind>` in their Arrow schema.
VERSION = 2

#: The identity columns, after `ts` and before the metrics. `device` is unique within a site and kind; `model` is the
#: GPU, CPU or DPU model or the type of facility equipment (`rack-meter`, `rack-loop`, `cdu`, ...); `job` is the
#: workload that the device serves, empty for none.
IDENTITY = ("site", "rack", "node", "device", "model", "job")
