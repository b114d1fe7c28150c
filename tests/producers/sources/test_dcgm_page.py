"""dcgm-exporter's text as frames: boards, MIG instances, shared boards, CPUs, and the jobs that labels name."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.sources.dcgm.holds import holds_of
from producers.sources.dcgm.job_labels import job_of
from producers.sources.dcgm.page import ScrapedPage, read
from producers.sources.dcgm.parse import parse, place
from producers.sources.label_jobs import LabelHold
from schemas.frame import Frame
from schemas.validation import Counts, mask_invalid
from tests.conftest import DATA

TEXT = (DATA / "expo_dcgm.txt").read_text()


def lines(gpu: int, labels: str = "", host: str = "n1", **fields: float) -> str:
    """The board's lines, with more labels: by the last words of the fields' names."""
    full = {"POWER_USAGE": 350, "TOTAL_ENERGY_CONSUMPTION": 5e9, "GPU_TEMP": 60, "GPU_UTIL": 90, **fields}
    identity = f'gpu="{gpu}",UUID="GPU-{gpu}{gpu}",modelName="NVIDIA H100 80GB HBM3",Hostname="{host}"{labels}'
    return "".join(
        f"DCGM_FI_{'' if name.startswith('PROF') else 'DEV_'}{name}{{{identity}}} {value}\n"
        for name, value in full.items()
    )


def one(text: str, kind: str = "gpu") -> Frame:
    (frame,) = [f for f in parse(text, 1000, "s").frames if f.kind == kind]
    return frame


def placed(text: str) -> ScrapedPage:
    page = read(text)
    for part in page.devices:
        place(part, "", part.host)
    return page


def test_old_and_new_names_mig_and_sentinels() -> None:
    scraped = parse(TEXT, 1000, "s", "R1")
    frame = scraped.frame
    assert frame is not None
    assert frame.identity("device") == ["node-7-GPU0", "node-7-GPU1"]
    assert frame.identity("board") == ["GPU-aa", "GPU-bb"]
    assert frame.identity("model") == ["H100"] * 2
    assert frame.key() == b"s/R1"
    assert frame.values("power_w").tolist() == pytest.approx([631.95, 70.25])
    assert frame.values("util_pct").tolist() == pytest.approx([100, 42])
    assert frame.values("energy_j")[0] == pytest.approx(5.2e8)
    assert np.isnan(frame.values("sm_active")).all()
    assert np.isnan(frame.values("mem_temp_c")[1])
    assert frame.values("xid")[0] == 79
    instance = one(TEXT, "gpu_instance")
    assert (instance.identity("device"), instance.values("sm_active").tolist()) == (["node-7-GPU1-MIG7"], [0.5])
    counts: Counts = Counter()
    assert np.isnan(mask_invalid(frame, counts).values("energy_j")[1])
    assert counts == {("energy_j", "sentinel"): 1}
    assert scraped.refused == {"line": 1, "no-gpu-label": 1}


def test_text_without_a_device_is_no_frame() -> None:
    assert parse("# nothing\nup 1\n", 0).frames == []


@given(st.text(max_size=300))
def test_any_text_is_parsed(text: str) -> None:
    parse(text, 0)


def test_seven_instances_of_a_board_are_one_board_with_its_power_once() -> None:
    text = "".join(
        lines(0, f',GPU_I_PROFILE="1g.10gb",GPU_I_ID="{n}"', FB_USED=100 * n, XID_ERRORS=0) for n in range(7, 14)
    )
    board, parts = one(text), one(text, "gpu_instance")
    assert (board.identity("device"), board.identity("board")) == (["n1-GPU0"], ["GPU-00"])
    assert (board.values("power_w").tolist(), board.values("energy_j").tolist()) == ([350], [5e6])
    assert (board.values("temp_c").tolist(), board.values("xid").tolist()) == ([60], [0])
    assert np.isnan(board.values("util_pct")).all(), "no line is of the board alone"
    assert np.isnan(board.values("fb_used_mib")).all()
    assert parts.identity("device") == [f"n1-GPU0-MIG{n}" for n in range(7, 14)]
    assert parts.identity("board") == [f"GPU-00/{n}" for n in range(7, 14)]
    assert parts.identity("model") == ["1g.10gb"] * 7
    assert parts.values("util_pct").tolist() == [90] * 7
    assert parts.values("fb_used_mib").tolist() == [100 * n for n in range(7, 14)]


def test_a_line_of_the_whole_board_counts_before_those_of_its_instances() -> None:
    part = lines(0, ',GPU_I_PROFILE="2g.20gb",GPU_I_ID="3"', POWER_USAGE=1, PROF_GR_ENGINE_ACTIVE=0.25)
    whole = lines(0, FB_USED=70000)
    for text in (part + whole, whole + part):
        board, instance = one(text), one(text, "gpu_instance")
        assert (board.values("power_w")[0], board.values("util_pct")[0]) == (350, 90)
        assert board.values("fb_used_mib")[0] == 70000
        assert instance.values("util_pct").tolist() == [25], "the engines' share of time counts before GPU_UTIL"


def test_a_board_that_four_pods_share_is_counted_once_and_all_four_hold_a_quarter() -> None:
    text = "".join(lines(0, f',vgpu="{n}",namespace="team-{n}",pod="serve-{n}",container="c"') for n in range(4))
    board = one(text)
    assert (board.rows, board.values("power_w").tolist(), board.values("energy_j").tolist()) == (1, [350], [5e6])
    assert holds_of(placed(text).boards) == [
        LabelHold(f"team-{n}/serve-{n}", "n1", "n1", ("n1-GPU0",), 0.25) for n in range(4)
    ]


def test_a_job_holds_all_its_boards_of_a_node_and_jobs_of_one_board_share_it() -> None:
    text = "".join(lines(gpu, ',hpc_job="7"') for gpu in (10, 2, 1)) + lines(1, ',hpc_job="8"')
    assert one(text).identity("device") == ["n1-GPU1", "n1-GPU2", "n1-GPU10"]
    assert holds_of(placed(text).boards) == [
        LabelHold("7", "n1", "n1", ("n1-GPU1", "n1-GPU2", "n1-GPU10"), round(2.5 / 3, 6)),
        LabelHold("8", "n1", "n1", ("n1-GPU1",), 0.5),
    ]


def test_pods_of_instances_hold_their_slices_of_the_board() -> None:
    text = "".join(
        lines(0, f',GPU_I_PROFILE="{g}g.{g}0gb",GPU_I_ID="{g}",namespace="ml",pod="{pod}"')
        for g, pod in ((1, "a"), (2, "a"), (4, "b"))
    )
    assert holds_of(placed(text).boards) == [
        LabelHold("ml/a", "n1", "n1", ("n1-GPU0",), round(3 / 7, 6)),
        LabelHold("ml/b", "n1", "n1", ("n1-GPU0",), round(4 / 7, 6)),
    ]


@pytest.mark.parametrize(
    ("labels", "job"),
    [
        ({"hpc_job": "4711"}, "4711"),
        ({"hpc_job": "4711", "namespace": "slurm", "pod": "worker-0"}, "4711"),
        ({"hpc_job": "", "namespace": "ml", "pod": "train-0", "container": "c"}, "ml/train-0"),
        ({"container_name": "c", "pod_namespace": "ml", "pod_name": "train-2"}, "ml/train-2"),
        (
            {"namespace": "gpu-operator", "pod": "dcgm-exporter-x", "exported_namespace": "ml", "exported_pod": "t"},
            "ml/t",
        ),
        ({"exported_pod_namespace": "ml", "exported_pod_name": "t"}, "ml/t"),
        ({"namespace": "gpu-operator", "pod": "nvidia-dcgm-exporter-x7k2p"}, ""),  # of an idle GPU, after a scraper
        ({"pod": "alone"}, "alone"),
        ({"namespace": "", "pod": "", "container": ""}, ""),
        ({"namespace": "ml"}, ""),
        ({}, ""),
    ],
)
def test_the_job_that_labels_name(labels: dict[str, str], job: str) -> None:
    assert job_of(labels) == job


def test_cpu_lines_of_a_grace_host_are_rows_of_node() -> None:
    cpu = '{cpu="0",Hostname="n1"}'
    text = (
        lines(0)
        + f"DCGM_FI_DEV_CPU_UTIL_TOTAL{cpu} 0.42\nDCGM_FI_DEV_CPU_POWER_UTIL_CURRENT{cpu} 131.4\n"
        + f"DCGM_FI_DEV_CPU_TEMP_CURRENT{cpu} 44.5\nDCGM_FI_DEV_CPU_POWER_LIMIT{cpu} 500\n"
        + "".join(
            f'DCGM_FI_DEV_CPU_{name}{{cpucore="{core}",cpu="1",Hostname="n1",modelName="NVIDIA Grace"}} {value}\n'
            for core, (util, clock) in enumerate([(0.2, 3000), (0.6, 3200), (9223372036854775794, 3400)])
            for name, value in (("UTIL_TOTAL", util), ("CLOCK_CURRENT", clock))
        )
        + 'DCGM_FI_DEV_CPU_CLOCK_CURRENT{cpu="1",Hostname="n1"} 9223372036854775792\n'
        + 'DCGM_FI_DEV_CPU_POWER_LIMIT{cpu="1",Hostname="n1"} 9223372036854775792\n'
        + f"DCGM_FI_DEV_CPU_CLOCK_CURRENT{cpu} 3411000\n"
        + "DCGM_FI_DEV_CPU_TEMP_CURRENT 44\n"
    )
    node = one(text, "node")
    assert node.identity("device") == ["n1-CPU0", "n1-CPU1"]
    assert (node.identity("rack"), node.identity("board")) == (["n1"] * 2, [""] * 2)
    assert node.identity("model") == ["", "Grace"]
    assert node.values("util_pct").tolist() == pytest.approx([42, 40]), "the mean over cores where there is no total"
    assert node.values("clock_mhz").tolist() == [3411, 3200], "kHz, or MHz"
    assert np.isnan(mask_invalid(node, Counter()).values("power_limit_w")[1])
    assert (node.values("power_w")[0], node.values("power_limit_w")[0]) == (pytest.approx(131.4), 500)
    assert node.values("temp_c")[0] == 44.5
    assert one(text).rows == 1
    assert parse(text, 0).refused == {"no-cpu-label": 1}


def test_lines_of_one_index_with_two_uuids_are_two_boards() -> None:
    text = lines(0, POWER_USAGE=100) + lines(0, POWER_USAGE=200).replace("GPU-00", "GPU-zz")
    board = one(text)
    assert board.identity("board") == ["GPU-00", "GPU-zz"]
    assert board.values("power_w").tolist() == [100, 200]


def test_lines_without_a_host_name_are_the_nodes_where_one_is_given() -> None:
    text = 'DCGM_FI_DEV_GPU_TEMP{gpu="0",UUID="GPU-aa"} 50\nDCGM_FI_DEV_POWER_USAGE{gpu="0",Hostname="x"} 300\n'
    (frame,) = parse(text, 0, "s", "R1", "N1").frames
    assert (frame.identity("device"), frame.identity("board")) == (["N1-GPU0"], ["GPU-aa"])
    assert (frame.values("temp_c")[0], frame.values("power_w")[0]) == (50, 300)
