"""Coverage-guided fuzzing of everything that reads what others wrote: `python -m tests.fuzz TARGET [SECONDS [SEED]]`.

libFuzzer (atheris) ends with an error on an exception that is not the target's own, on an input that takes longer than
twenty seconds (a busy machine's five), and on more than a gigabyte and a half of memory. Every input must give a result
or a named reason.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["schemas", "producers", "pipeline.embedded"]):
    from pipeline.embedded.clickhouse import encoding, sql_guard
    from producers.publish import disk_buffer
    from producers.sources import exposition
    from producers.sources.dcgm import parse as dcgm
    from producers.sources.dsx import parse
    from producers.sources.slurm import parse as slurm_parse
    from producers.sources.slurm.document import InvalidDump
    from producers.sources.slurm.scheduler import SlurmScheduler
    from schemas import derived
    from schemas.codec import Decoder, InvalidFrame
    from schemas.deadletter import DeadLetter
    from tests.make_samples import small_frame

from schemas.codec import encode

DATA = Path(__file__).parent


def codec(data: bytes) -> None:
    """Frames and derived messages."""
    for read in (Decoder().decode, derived.decode):
        try:
            found = read(data)
        except InvalidFrame as err:
            assert err.reason  # noqa: PT017 - this is the fuzzer, not a test
            assert err.detail is not None  # noqa: PT017
        else:
            assert found


def deadletter(data: bytes) -> None:
    """Headers of the dead-letter topic."""
    names = ("topic", "partition", "offset", "timestamp", "reason", "detail", "log")
    letter = DeadLetter.read(data, list(zip(names, data.split(b"\x00"), strict=False)), 1)
    assert letter.row().num_rows == 1
    assert letter.id


def text(data: bytes) -> None:
    """dcgm-exporter's page."""
    page = data.decode("utf-8", "replace")
    for sample in exposition.samples(page):
        assert isinstance(sample, (exposition.Sample, exposition.InvalidLine))
    scraped = dcgm.parse(page, 1_750_000_000_000, "s")
    assert scraped.frame is None or scraped.frame.rows > 0


def messages(data: bytes) -> None:
    """DSX messages: topic, newline, payload; several of them."""
    points = parse.Points()
    parts = data.decode("utf-8", "replace").split("\n")
    for topic, payload in zip(parts[0::2], parts[1::2], strict=False):
        try:
            points.ingest(topic, payload, 1_750_000_000_000)
        except parse.InvalidMessage as err:
            assert err.reason  # noqa: PT017 - this is the fuzzer, not a test
    for frame in points.frames(1_750_000_000_000):
        assert frame.rows > 0


def body(data: bytes) -> None:
    """HTTP bodies and statements of the embedded ClickHouse."""
    for name in ("gzip", "deflate", "lz4", "zstd"):
        try:
            assert len(encoding.decompress(data, name, 1 << 20)) <= 1 << 20
        except encoding.EncodingError as err:
            assert str(err)  # noqa: PT017
    sql_guard.forbidden_access(data.decode("utf-8", "surrogateescape"), lambda s: s)


def segment(data: bytes) -> None:
    """A spool's file, whatever has become of it."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / f"{1:016d}.spool").write_bytes(data)
        (Path(folder) / "position").write_bytes(data[:20])
        held = disk_buffer.DiskBuffer(Path(folder), 1 << 20)
        while found := held.first(1 << 16):
            held.sent(found)


def slurm(data: bytes) -> None:
    """Slurm's answers: jobs, a zero byte, nodes."""
    jobs, _, nodes = data.decode("utf-8", "replace").partition("\x00")
    scheduler = SlurmScheduler("s")
    try:
        dump = slurm_parse.parse(jobs, nodes)
    except InvalidDump as err:
        assert err.reason  # noqa: PT017 - this is the fuzzer, not a test
    else:
        scheduler.update(dump, 1_790_000_000_000)
        assert len(scheduler.open_holds) == sum(len(job.holds) for job in dump.jobs.values())


TARGETS: dict[str, Callable[[bytes], None]] = {
    f.__name__: f for f in (codec, deadletter, text, messages, body, segment, slurm)
}


def seeds(target: str) -> list[bytes]:
    """Good input to begin from."""
    if target == "codec":
        return [p.read_bytes() for p in (DATA / "golden").glob("*.arrow")] + [encode(small_frame())]
    if target == "text":
        return [(DATA / "data" / "expo_dcgm.txt").read_bytes()]
    if target == "messages":
        rows = [line.split(",", 2) for line in (DATA / "data" / "dsx_sample.csv").read_text().splitlines()[1:200]]
        return ["\n".join((r[1].strip('"'), r[2].strip('"').replace('""', '"'))).encode() for r in rows if len(r) == 3]
    if target == "slurm":
        folder = DATA / "data" / "slurm"
        pairs = [(p, p.with_name(p.name.replace("jobs", "nodes"))) for p in sorted(folder.glob("jobs-*.json"))]
        small = (
            b'{"jobs": [{"job_id": 1, "job_state": ["RUNNING"], "nodes": "n1", "gres_detail": ["gpu:a:2(IDX:0-1)"]}]}'
        )
        return [small + b'\x00{"nodes": [{"name": "n1", "state": "idle"}]}'] + [
            jobs.read_bytes() + b"\x00" + nodes.read_bytes() for jobs, nodes in pairs
        ]
    return [b"SELECT 1 FROM file('x')", b"gpu\x000\x001\x002\x00stale\x00why\x00log"]


def main() -> None:
    target, seconds, seed = (*sys.argv[1:4], *("60", "0")[len(sys.argv) - 2 :])  # seed 0: another one each time
    with tempfile.TemporaryDirectory() as folder:
        for number, good in enumerate(seeds(target)):
            (Path(folder) / str(number)).write_bytes(good)
        atheris.Setup(
            [
                sys.argv[0],
                folder,
                f"-max_total_time={seconds}",
                "-timeout=20",
                "-rss_limit_mb=1500",
                "-max_len=8192",
                f"-seed={seed}",
                "-print_final_stats=1",
                f"-artifact_prefix={tempfile.gettempdir()}/fuzz-{target}-",
            ],
            TARGETS[target],
        )
        atheris.Fuzz()


if __name__ == "__main__":
    main()
