"""Every name that the field gives a GPU, CPU, DPU or rack leads to the catalogue's model, and no other does."""

import io
import json
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from schemas import hardware
from schemas.model_names import is_profile, pci_id

HARDWARE = hardware.load()

NAMES = {
    "H100": [
        *("H100", "h100", "NVIDIA H100 80GB HBM3", "H100 80GB HBM3", "NVIDIA-H100-80GB-HBM3", "nvidia_h100_80gb_hbm3"),
        *("NVIDIA H100 SXM5 80 GB", "GH100 [H100 SXM5 80GB]", "10de:2330", "0x10de:0x2330", "0x233010DE", "590352606"),
        *("NVIDIA-H100-80GB-HBM3-MIG-1g.10gb-SHARED", "NVIDIA H100 80GB HBM3 MIG 3g.40gb", "h100_1g.10gb"),
        *("nvidia_h100_80gb_hbm3_1g.10gb+me", "  nvidia  H100   80GB HBM3 ", r"PCI\VEN_10DE&DEV_2330&SUBSYS_16C110DE"),
        *("3D controller [0302]: NVIDIA Corporation GH100 [H100 SXM5 80GB] [10de:2330] (rev a1)",),
        *("NVIDIA Corporation GH100 [H100 SXM5 80GB] (rev a1)",),
    ],
    "H100 PCIe": ["NVIDIA H100 PCIe", "h100_pcie", "NVIDIA H100 80GB PCIe", "NVIDIA H100 80GB HBM2e", "10de:2331"],
    "H100 NVL": ["NVIDIA H100 NVL", "h100-nvl", "GH100 [H100L 94GB]", "10de:2321"],
    "H200": ["NVIDIA H200", "h200", "H200 SXM 141GB", "NVIDIA H200 141GB HBM3e", "h200_1g.18gb", "10de:2335"],
    "H200 NVL": ["NVIDIA H200 NVL", "10de:233b"],
    "GH200": ["NVIDIA GH200 96GB HBM3", "NVIDIA GH200 480GB", "GH100 [GH200 120GB / 480GB]", "0x10de:0x2342"],
    "B200": ["NVIDIA B200", "b200", "B200-SXM-180GB", "NVIDIA B200-SXM-180GB", "GB100 [B200]", "10de:2901"],
    "B300": ["NVIDIA B300 SXM6 AC", "NVIDIA-B300-SXM6-AC", "b300", "10de:3182"],
    "GB200": ["NVIDIA GB200", "gb200", "GB200", "GB100 [HGX GB200]", "gb200_1g.23gb", "10de:2941"],
    "GB300": ["NVIDIA GB300", "gb300", "GB300", "GB110 [GB300]", "10de:31c2", "10de:31c3"],
    "VR200": ["VR200", "NVIDIA VR200"],
    "A100": ["NVIDIA A100-SXM4-40GB", "A100-SXM4-40GB", "a100", "nvidia_a100-sxm4-40gb_1g.5gb", "10de:20b0"],
    "A100 80GB": ["NVIDIA A100-SXM4-80GB", "a100_80gb", "NVIDIA-A100-SXM4-80GB-MIG-1g.10gb", "10de:20b2"],
    "A100 PCIe": ["NVIDIA A100-PCIE-40GB", "GA100 [A100 PCIe 40GB]", "10de:20f1"],
    "A100 PCIe 80GB": ["NVIDIA A100 80GB PCIe", "GA100 [A100 PCIe 80GB]", "a100_80gb_pcie", "10de:20b5"],
    "A30": ["NVIDIA A30", "10de:20b7"],
    "A40": ["NVIDIA A40", "10de:2235"],
    "A10": ["NVIDIA A10", "10de:2236"],
    "L40S": ["NVIDIA L40S", "l40s", "649662686"],
    "L40": ["NVIDIA L40", "10de:26b5"],
    "L4": ["NVIDIA L4", "10de:27b8"],
    "T4": ["Tesla T4", "NVIDIA Tesla T4", "tesla_t4", "10de:1eb8"],
    "V100": ["Tesla V100-SXM2-16GB", "Tesla V100-SXM2-32GB", "v100", "10de:1db5"],
    "V100 PCIe": ["Tesla V100-PCIE-16GB", "Tesla V100S-PCIE-32GB", "10de:1db4"],
    "RTX PRO 6000": ["NVIDIA RTX PRO 6000 Blackwell Server Edition", "10de:2bb5"],
    "RTX PRO 6000 Max-Q": ["NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition", "10de:2bb4"],
    "Xeon": ["Xeon", "Intel(R) Xeon(R) Platinum 8480C", "INTEL(R) XEON(R) PLATINUM 8480+ CPU @ 2.00GHz"],
    "Xeon Gold 6354": ["Intel(R) Xeon(R) Gold 6354 CPU @ 3.00GHz"],
    "Xeon Gold 6138": ["Intel(R) Xeon(R) Gold 6138 CPU @ 2.00GHz"],
    "Grace": ["Grace", "Grace A02", "NVIDIA Grace CPU"],
    "Vera": ["Vera", "NVIDIA Vera CPU", "Vera Rubin CPU"],
    "BlueField-2": ["NVIDIA BlueField-2 DPU", "MT42822 BlueField-2 integrated ConnectX-6 Dx network controller"],
    "BlueField-3": [
        *("BlueField-3 SmartNIC Main Card", "Nvidia Bluefield 3", "900-9D3B6-00CV-A_Ax", "0x15b3:0xa2dc"),
        *("NVIDIA BlueField-3 B3220 P-Series FHHL DPU; 200GbE (default mode) / NDR200 IB; Dual-port QSFP112",),
    ],
    "BlueField-4": ["NVIDIA BlueField-4", "15b3:a2df"],
    "HGX-H100": ["HGX H100", "DGX H100", "NVIDIA DGX H100"],
    "NVL72-GB200": ["GB200 NVL", "GB200 NVL72", "DGX GB200 Compute Tray", "NVIDIA GB200 NVL72"],
    "NVL72-GB300": ["GB300 NVL72", "DGX GB300"],
}
#: Names near to a model's that are other models, which the catalogue does not have.
OTHERS = [
    *("NVIDIA A100X", "NVIDIA A800-SXM4-80GB", "NVIDIA H100 CNX", "NVIDIA H800", "NVIDIA A1000", "NVIDIA GB10"),
    *("GRID A100-40C", "NVIDIA GB300 MaxQ", "NVIDIA L40G", "NVIDIA GeForce RTX 4090", "AMD Instinct MI300X", "H1000"),
    *("10de:ffff", "8086:2330", "Intel(R) Xeon(R) Gold 6348", "BlueField SoC", "NVIDIA Graphics Device", "rack-meter"),
]


@pytest.mark.parametrize(("model", "name"), [(model, name) for model, names in NAMES.items() for name in names])
def test_a_name_of_the_field_leads_to_its_model_alone(model: str, name: str) -> None:
    assert HARDWARE.canonical(name) == model
    if not pci_id(name) and "[10de:" not in name and "VEN_" not in name:
        assert [m for m, known in patterns().items() if re.match(known, name)] == [model]


@pytest.mark.parametrize("name", OTHERS)
def test_another_model_is_not_taken_for_one_of_ours(name: str) -> None:
    assert HARDWARE.find(name) is None
    assert HARDWARE.canonical(name) not in {*HARDWARE.gpus, *HARDWARE.cpus, *HARDWARE.dpus, *HARDWARE.racks}


def patterns() -> dict[str, str]:
    """Model -> pattern, of GPUs, CPUs and DPUs; of racks too, which have other names."""
    parts = {p.name: p.pattern for group in (HARDWARE.gpus, HARDWARE.cpus, HARDWARE.dpus) for p in group.values()}
    racks = {name: known.pattern for known, name in HARDWARE.names["rack"].known()}
    return parts | racks


def test_the_patterns_mean_the_same_in_re2_which_clickhouse_uses() -> None:
    names = [name for group in NAMES.values() for name in group] + OTHERS
    for model, known in patterns().items():
        theirs = pc.match_substring_regex(pa.array(names), known).to_pylist()
        assert theirs == [re.match(known, name) is not None for name in names], model


def test_every_model_of_the_catalogue_is_found_by_its_own_name_and_every_pci_id_is_one_models() -> None:
    ours = [*HARDWARE.gpus, *HARDWARE.cpus, *HARDWARE.dpus, *HARDWARE.racks]
    assert [HARDWARE.canonical(name) for name in ours] == ours
    assert [HARDWARE.canonical(f"NVIDIA {name.upper()}") for name in ours] == ours
    assert set(NAMES) <= set(ours)
    assert all("tdp_w" in gpu.figures for gpu in HARDWARE.gpus.values()), "the boards divide by every GPU's TDP"
    text = Path(hardware.__file__).with_suffix(".toml").read_text(encoding="utf-8")
    ids = [pci for line in text.splitlines() if line.startswith("pci") for pci in json.loads(line.split(" = ")[1])]
    assert len(ids) == len(set(ids)) > 40


def test_forms_of_one_board_keep_their_own_figures() -> None:
    tdp = {name: part["tdp_w"] for name in ("H100 80GB HBM3", "H100 PCIe", "H100 NVL") if (part := HARDWARE.find(name))}
    assert tdp == {"H100 80GB HBM3": 700, "H100 PCIe": 350, "H100 NVL": 400}
    assert HARDWARE.rack("NVIDIA GB200").name == HARDWARE.rack("GB200 NVL72").name == "NVL72-GB200"
    assert HARDWARE.rack("NVIDIA H100 80GB HBM3").max_power_w == HARDWARE.rack("H100").max_power_w
    with pytest.raises(hardware.HardwareError, match="no rack or GPU model 'H100 PCIe'"):
        HARDWARE.rack("H100 PCIe")


def test_an_operators_file_adds_models_and_names_and_wins(tmp_path: Path) -> None:
    extra = tmp_path / "site.toml"
    figure = '{ value = 500, grade = "A", source = "our meter" }'
    extra.write_text(
        f'[gpu."H100 80GB HBM3"]\ntdp_w = {figure}\n[gpu.H800]\nnames = ["H800 SXM5"]\nwords = ["80GB"]\n'
        f'pci = ["10de:2324"]\ntdp_w = {figure}\n[gpu.H200]\nnames = ["Big Hopper"]\n'
    )
    ours = hardware.load(str(extra))
    assert ours.canonical("NVIDIA H100 80GB HBM3") == "H100 80GB HBM3", "a table of the whole name is that name's model"
    assert ours.canonical("H100") == "H100"
    assert [ours.canonical(n) for n in ("NVIDIA H800 80GB", "h800-sxm5", "10de:2324")] == ["H800"] * 3
    assert [ours.canonical(n) for n in ("NVIDIA Big-Hopper", "H200 141GB", "10de:2335")] == ["H200"] * 3


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('names = "H100"', "gpu.X.names: wants a list of strings"),
        ('words = [""]', "gpu.X.words: wants a list of strings"),
        ('pci = ["0x10de:0x2330"]', "gpu.X.pci: '0x10de:0x2330' is not VENDOR:DEVICE"),
    ],
)
def test_a_wrong_list_of_names_is_an_error_that_names_it(tmp_path: Path, line: str, message: str) -> None:
    extra = tmp_path / "site.toml"
    extra.write_text(f"[gpu.X]\n{line}\n")
    with pytest.raises(hardware.HardwareError, match=re.escape(message)):
        hardware.load(str(extra))


def test_an_unknown_model_is_named_once_with_what_to_add() -> None:
    unknown = hardware.UnknownModels(HARDWARE, most=2)
    sentence = unknown.note("NVIDIA H800")
    assert sentence is not None
    assert sentence.startswith("the hardware catalogue has no GPU 'NVIDIA H800': ")
    assert 'Add [gpu."H800"] with tdp_w to a file and name it in GIGAWATCH_HARDWARE' in sentence
    for known in ("NVIDIA H800", "H800", "NVIDIA H100 80GB HBM3", "", "1g.10gb"):
        assert unknown.note(known) is None
    assert '[cpu."EPYC 9654"]' in (unknown.note("AMD EPYC 9654", "cpu") or "")
    assert unknown.note("NVIDIA H20") is None, "a label without end is not a log without end"
    assert is_profile("MIG 3g.40gb")
    assert not is_profile("H100 3g.40gb")


#: Hardware in the recordings that is no GPU, CPU, DPU or rack of the catalogue: a server, supplies, boards, chips,
#: drives, a DPU without its generation.
NOT_OURS = re.compile(
    r"PowerEdge R640|PWR SPLY.*|PG530-A02|P4764-A01|P4486 B00|P3809|OberonCBC.|GH200 2PBaseboard 480LP5|MAX10|OpenBmc|"
    r"ARMv9|Dell Ent NVMe.*|NO_MODEL|DELLBOSS_VD|0x1|BlueField SoC|"
)
#: Keys of a model's name in Redfish and NICo records.
_KEYS = {"Model", "model", "product_name", "part_description"}


def recorded_names(folder: Path) -> Iterator[tuple[str, str]]:
    """(file, name) of every model in the recordings."""
    for path in sorted(p for p in folder.rglob("*") if p.suffix in (".metrics", ".py", ".go", ".md")):
        text = path.read_text(encoding="utf-8")
        for name in re.findall(r'(?:modelName|[,{]name)=\\?"((?:NVIDIA|Tesla)[^"\\]*)', text):
            yield path.name, name
        for number in re.findall(r"^nvidia_smi_pci_device_id\{.*?\} (\S+)$", text, re.MULTILINE):
            yield path.name, str(int(float(number)))
        for name in re.findall(r'nvmlDeviceGetName\(h\): return "([^"]+)"', text):
            yield path.name, name
    for path in sorted((folder / "slurm-22.05").iterdir()):
        for name in re.findall(r"gpu:([a-z]\w*):\d", path.read_text(encoding="utf-8")):
            yield path.name, name
    for path in sorted(folder.rglob("*.json")):
        if path.parent.name.startswith(("redfish", "nico")) and "invalid" not in path.name:
            for name in _models(json.loads(path.read_text(encoding="utf-8"))):
                yield path.name, name
    with tarfile.open(folder / "redfish-gh200" / "gh200.tar.gz") as tree:
        for member in tree:
            if member.name.endswith(".json") and (file := tree.extractfile(member)):
                for name in _models(json.load(io.TextIOWrapper(file, "utf-8"))):
                    yield member.name, name


def _models(node: Any) -> Iterator[str]:
    if isinstance(node, list):
        for element in node:
            yield from _models(element)
    elif isinstance(node, dict):
        yield from (str(node[key]) for key in _KEYS & node.keys() if isinstance(node[key], str))
        vendor, device = node.get("VendorId"), node.get("DeviceId")
        if isinstance(vendor, str) and isinstance(device, str) and vendor:
            yield f"{vendor}:{device}"
        for key, element in node.items():
            if key == "gpus" and isinstance(element, list):
                yield from (gpu["name"] for gpu in element)
            yield from _models(element)


def test_every_model_in_the_recordings_is_known(recorded: Path) -> None:
    found: dict[str, str] = {}
    for file, name in recorded_names(recorded):
        if not NOT_OURS.fullmatch(name.strip()):
            model = HARDWARE.canonical(name)
            assert any(model in group for group in (HARDWARE.gpus, HARDWARE.cpus, HARDWARE.dpus, HARDWARE.racks)), (
                f"{file}: {name!r} is unknown"
            )
            found[name] = model
    want = {
        "NVIDIA H100 80GB HBM3": "H100",
        "590352606": "H100",
        "h100": "H100",
        "NVIDIA H100 PCIe": "H100 PCIe",
        "NVIDIA L40S": "L40S",
        "649662686": "L40S",
        "Tesla T4": "T4",
        "NVIDIA GB300": "GB300",
        "NVIDIA GH200 96GB HBM3": "GH200",
        "0x10de:0x2342": "GH200",
        "Grace A02": "Grace",
        "Intel(R) Xeon(R) Gold 6354 CPU @ 3.00GHz": "Xeon Gold 6354",
        "Intel(R) Xeon(R) Gold 6138 CPU @ 2.00GHz": "Xeon Gold 6138",
        "BlueField-3 SmartNIC Main Card": "BlueField-3",
        "GB200 NVL": "NVL72-GB200",
        "DGX GB200 Compute Tray": "NVL72-GB200",
    }
    assert want.items() <= found.items()
