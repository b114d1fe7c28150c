"""Makes the small samples that the repository carries: golden payloads and a DSX trace. Run it by hand; the results are
committed.

python -m tests.make_samples
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow as pa

from producers.sources.synthetic.source import Synthetic
from schemas.codec import encode, encode_batch
from schemas.frame import Frame, build

HERE = Path(__file__).parent
START_MS = 1_750_000_000_000


def small_frame() -> Frame:
    """Two GPUs, three metrics, one missing value."""
    identity = {
        "site": ["s"] * 2,
        "rack": ["R0001"] * 2,
        "node": ["N01"] * 2,
        "device": ["G0", "G1"],
        "model": ["H100"] * 2,
        "board": ["GPU-a", "GPU-b"],
    }
    return build(
        "gpu", START_MS, identity, {"power_w": [631.9, 70.0], "temp_c": [59.0, np.nan], "energy_j": [1e9, 2e9]}
    )


def goldens() -> dict[str, tuple[bytes, str]]:
    """File name -> (bytes, expected: `ok` or the reason of the refusal)."""
    frame = small_frame()
    good = encode(frame)
    batch = frame.batch
    v1 = pa.RecordBatch.from_arrays(
        [
            pa.array([START_MS] * 2, pa.int64()),
            *(batch.column(n) for n in ("site", "rack")),
            pa.array(["N01"] * 2),
            batch.column("device"),
            batch.column("model"),
            batch.column("power_w"),
        ],
        schema=pa.schema(
            [
                ("ts", pa.int64()),
                ("site", pa.string()),
                ("rack", pa.string()),
                ("hostname", pa.string()),
                ("device", pa.string()),
                ("model", pa.string()),
                ("power_w", pa.float32()),
            ],
            {b"gigawatch": b"1/gpu"},
        ),
    )
    v2_schema = pa.schema(
        [pa.field("job", pa.string(), nullable=False) if f.name == "board" else f for f in batch.schema],
        {b"gigawatch": b"2/gpu"},
    )
    v2 = pa.RecordBatch.from_arrays(
        [pa.array(["", "train"]) if f.name == "job" else batch.column(f.name) for f in v2_schema], schema=v2_schema
    )
    other = pa.RecordBatch.from_pydict({"a": [1, 2]})
    unknown = pa.RecordBatch.from_arrays(
        [*batch.columns, pa.array([1.0, 2.0], pa.float32())],
        schema=batch.schema.append(pa.field("nosuch_w", pa.float32(), nullable=False)),
    )
    future = pa.RecordBatch.from_arrays(batch.columns, schema=batch.schema.with_metadata({b"gigawatch": b"9/gpu"}))
    kind = pa.RecordBatch.from_arrays(batch.columns, schema=batch.schema.with_metadata({b"gigawatch": b"2/weather"}))
    typed = pa.RecordBatch.from_arrays(
        [*batch.columns[:-1], batch.column("energy_j").cast(pa.float32())],
        schema=batch.schema.set(len(batch.schema) - 1, pa.field("energy_j", pa.float32(), nullable=False)),
    )
    return {
        "v3-gpu.arrow": (good, "ok"),
        "v2-gpu.arrow": (encode_batch(v2), "ok"),
        "v1-gpu.arrow": (encode_batch(v1), "ok"),
        "garbage.arrow": (b"\x00garbage, not Arrow at all\xff" * 3, "not-arrow"),
        "empty.arrow": (b"", "not-arrow"),
        "cut-short.arrow": (good[: len(good) // 2 + 300], "corrupt"),
        "schema-only.arrow": (good[: 8 + int.from_bytes(good[4:8], "little")], "truncated"),
        "not-ours.arrow": (encode_batch(other), "schema"),
        "unknown-column.arrow": (encode_batch(unknown), "schema"),
        "wrong-type.arrow": (encode_batch(typed), "schema"),
        "version-9.arrow": (encode_batch(future), "version"),
        "unknown-kind.arrow": (encode_batch(kind), "kind"),
        "no-rows.arrow": (encode_batch(batch.slice(0, 0)), "empty"),
        "claims-2-gb.arrow": (b"\xff\xff\xff\xff\xff\xff\xff\x7f" + b"x" * 64, "not-arrow"),
    }


_POINTS = (
    ("Rack", "RackLiquidFlow", "LPM", "cooling", "flow_lpm", 1.0, "energyValve/flow/feedback/value"),
    (
        "Rack",
        "RackLiquidSupplyTemperature",
        "C",
        "cooling",
        "supply_temp_c",
        1.0,
        "energyValve/supplyTemperature/feedback/value",
    ),
    (
        "Rack",
        "RackLiquidReturnTemperature",
        "C",
        "cooling",
        "return_temp_c",
        1.0,
        "energyValve/returnTemperature/feedback/value",
    ),
    (
        "Rack",
        "RackLiquidDifferentialPressure",
        "kPa",
        "cooling",
        "diff_pressure_kpa",
        1.0,
        "energyValve/dp/feedback/value",
    ),
    ("Rack", "RackPower", "kW", "power", "power_w", 1e-3, "info/power/power/value"),
)


def dsx_trace(path: Path, seconds: int = 80) -> None:
    """Two synthetic HGX racks as NVIDIA's DSX contract has them: metadata first, then values on change."""
    plant = Synthetic(2, "HGX-H100", seed=7)
    racks = plant.topology.rack_names()
    with path.open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(["offset", "topic", "payload"])
        for rack in racks:
            for kind, point, unit, *_, tag in _POINTS:
                meta = {
                    "objectType": kind,
                    "pointType": point,
                    "engUnit": unit,
                    "rackLocationName": rack,
                    "rackLocationId": rack,
                }
                out.writerow(
                    [
                        "0s",
                        f"BMS/v1/PUB/Metadata/{kind}/{point}/gigawatch/sample/pod1/{rack}/{tag}",
                        json.dumps(meta, separators=(",", ":")),
                    ]
                )
        last: dict[tuple[str, str], float] = {}
        for second in range(seconds):
            frames = [e for e in plant.frames(START_MS + 1000 * second) if isinstance(e, Frame)]
            for frame in frames:
                for row, (rack, model) in enumerate(zip(frame.identity("rack"), frame.identity("model"), strict=True)):
                    if model not in ("rack-meter", "rack-loop"):
                        continue
                    for kind, point, _, of, metric, scale, tag in _POINTS:
                        if of != frame.kind:
                            continue
                        value = round(float(frame.values(metric)[row]) * scale, 3)
                        if last.get((rack, point)) != value:
                            last[rack, point] = value
                            body = f'{{"value":{value},"timestamp":{{{{timestamp_ms}}}},"quality":1}}'
                            out.writerow(
                                [
                                    f"{second}.{100 + len(point)}s",
                                    f"BMS/v1/PUB/Value/{kind}/{point}/gigawatch/sample/pod1/{rack}/{tag}",
                                    body,
                                ]
                            )


def main() -> None:
    golden = HERE / "golden"
    golden.mkdir(exist_ok=True)
    expected = {}
    for name, (data, verdict) in goldens().items():
        (golden / name).write_bytes(data)
        expected[name] = verdict
    (golden / "expected.json").write_text(json.dumps(expected, indent=2) + "\n")
    dsx_trace(HERE / "data" / "dsx_sample.csv")


if __name__ == "__main__":
    main()
