"""Inventory files: what each line stands for, what is wrong with the bad ones, and how racks unfold."""

from __future__ import annotations

import math
from collections import Counter

import pytest

from producers.sources.declared import AssetRow, DeclaredRow, EdgeRow, NameRow, contained
from producers.sources.inventory.files import InventoryFile, read, together
from producers.sources.inventory.table import moment_ms
from tests.conftest import DATA

SINCE = moment_ms("from", "2026-11-25T08:00Z")
FOLDER = DATA / "inventory"


def sample(name: str) -> InventoryFile:
    return read(name, (FOLDER / name).read_text(), "site-1", SINCE)


def of_file(name: str) -> list[DeclaredRow]:
    return [each.row for each in sample(name).found]


def assets(rows: list[DeclaredRow]) -> dict[str, AssetRow]:
    return {row.asset: row for row in rows if isinstance(row, AssetRow)}


def csv(text: str) -> InventoryFile:
    return read("racks.csv", text, "site-1", SINCE)


def mistakes(text: str, name: str = "racks.csv") -> list[str]:
    return [str(m) for m in read(name, text, "site-1", SINCE).mistakes]


def test_a_csv_of_assets_keeps_its_good_lines() -> None:
    rows = of_file("assets.csv")
    found = assets(rows)
    assert set(found) == {
        *("R0001", "R0001-N01", "R0002", "R0005", "PDU-07"),
        "GPU-11111111-2222-3333-4444-555555555555",
    }
    board = found["GPU-11111111-2222-3333-4444-555555555555"]
    assert (board.kind, board.serial, board.rack, board.node, board.device) == (
        *("gpu", "1650123000001", "R0001", "R0001-N01"),
        "R0001-N01-GPU0",
    )
    assert (found["R0001-N01"].serial, found["R0001-N01"].slot) == ("NODE-77", "U12")
    assert found["PDU-07"].device == "PDU-07"
    assert [(r.system, r.name, r.asset) for r in rows if isinstance(r, NameRow)] == [
        ("inventory", "R0001-N01-GPU0", board.asset)
    ]


def test_each_bad_line_names_its_column_and_the_nearest_word() -> None:
    file = sample("assets.csv")
    assert [str(m) for m in file.mistakes] == [
        (
            "assets.csv, line 5, column state: 'mantenance' is no state; did you mean 'maintenance'? "
            "It is one of active, maintenance, retired"
        ),
        "assets.csv, line 7, column kind: 'rck' is no kind; did you mean 'rack'?",
        "assets.csv, line 9, column from: '2026-13-01' is no time such as 2026-11-25 or 2026-11-25T08:00Z",
        "assets.csv, line 11: is no CSV: unexpected end of data",
        "assets.csv, line 12, column kind: is empty",
        "assets.csv, line 13, column asset: names nothing: give asset or device",
    ]
    assert file.entries == 12


def test_a_csv_of_edges_may_have_semicolons() -> None:
    edges = [row for row in of_file("edges.csv") if isinstance(row, EdgeRow)]
    assert [(e.network, e.upstream, e.downstream, e.capacity_w, e.redundancy) for e in edges[:2]] == [
        ("power", "PDU-07", "R0001", 132_000.0, "2N"),
        ("power", "PDU-08", "R0001", 132_000.0, "2N"),
    ]
    assert math.isnan(edges[2].capacity_w)
    assert [str(m) for m in sample("edges.csv").mistakes] == [
        (
            "edges.csv, line 5, column network: 'powr' is no network; did you mean 'power'? "
            "It is one of contains, power, fluid, fabric"
        ),
        "edges.csv, line 6, column capacity_kw: 'much' is no number of kW above 0",
        "edges.csv, line 7, column downstream: 'PDU-07' feeds itself",
    ]


def test_a_csv_of_names() -> None:
    assert of_file("names.csv") == [
        NameRow(site="site-1", system="slurm", name="gb-r1-n1", asset="R0001-N01"),
        NameRow(site="site-1", system="bms", name="PDU.07", asset="PDU-07"),
    ]


def test_a_maintenance_with_times_leaves_the_asset_active_before_and_after() -> None:
    rows = [r for r in of_file("assets.csv") if isinstance(r, AssetRow) and r.asset == "R0002"]
    start, end = moment_ms("", "2026-11-20T08:00Z"), moment_ms("", "2026-11-30T12:00Z")
    # it began before the file was written: nothing before it is known
    assert [(r.state, r.valid_from, r.valid_to, r.reason) for r in rows] == [
        ("maintenance", start, end, "pump swap"),
        ("active", end, 0, ""),
    ]
    later = [each.row for each in csv("kind,rack,state,from\nrack,R1,retired,2027-01-01").found]
    planned = moment_ms("", "2027-01-01")
    assert [(r.state, r.valid_from, r.valid_to) for r in later if isinstance(r, AssetRow)] == [
        ("active", 0, planned),
        ("retired", planned, 0),
    ]


def test_places_contain_each_other() -> None:
    rows = [row for row in of_file("assets.csv") if isinstance(row, AssetRow)]
    assert {(e.upstream, e.downstream) for e in contained(rows)} == {
        ("H1", "H1/1"),
        ("H1/1", "R0001"),
        ("H1/1", "R0002"),
        ("H1/1", "PDU-07"),
        ("R0001", "R0001-N01"),
        ("R0001-N01", "GPU-11111111-2222-3333-4444-555555555555"),
    }  # R0005 is retired


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("", "racks.csv, line 1: is no header; wanted is network,upstream,downstream,capacity_kw,"),
        ("rack,power\nR1,7", "racks.csv, line 1: is no header"),
        ("kind,rakc\n,", "racks.csv, line 1, column rakc: is no column of assets; did you mean 'rack'?"),
        ("kind,rack,rack\n", "racks.csv, line 1, column rack: stands there twice. It is passed over"),
        ("kind,rack\nrack,R1,R2", "racks.csv, line 2: 3 cells, the header has 2"),
        ("kind,rack,from,to\nrack,R1,2026-02-01,2026-01-01", "racks.csv, line 2, column to: 2026-01-01 is not after"),
        ("kind,rack\nrack,R\ufffd1", "racks.csv, line 2: is not UTF-8"),
    ],
)
def test_what_cannot_be_read_is_named(text: str, mistake: str) -> None:
    assert mistakes(text)[0].startswith(mistake)


def test_excel_files_comments_and_empty_lines_are_read() -> None:
    file = csv("\ufeffKind;Rack\r\n\r\n# row 1\r\nRACK;R1\r\n;\r\n")
    assert [(r.kind, r.asset) for r in assets([each.row for each in file.found]).values()] == [("rack", "R1")]
    assert [str(m) for m in file.mistakes] == ["racks.csv, line 5, column kind: is empty"]


def test_a_rack_of_a_toml_file_unfolds_by_the_naming_convention() -> None:
    file = sample("site.toml")
    rows, _ = together([file])
    found = assets(rows)
    # 3 racks of 2 nodes of 4 GPUs, B7 with a node and a GPU, a CDU
    assert Counter(row.kind for row in found.values()) == {"rack": 4, "node": 7, "gpu": 25, "cdu": 1}
    gpu = found["R0002-N01-GPU3"]
    assert (gpu.site, gpu.hall, gpu.row, gpu.rack, gpu.node, gpu.device, gpu.model) == (
        *("iad-1", "H1", "1", "R0002"),
        *("R0002-N01", "R0002-N01-GPU3", "GB200"),
    )
    assert {a.device for a in found.values() if a.rack == "B7" and a.kind == "gpu"} == {"b7-host1/gpu00"}
    assert [str(m) for m in file.mistakes] == [
        "site.toml, rack 3, column node: 'node' gives several parts one name: it lacks {n}"
    ]
    assert [(r.network, r.capacity_w) for r in rows if isinstance(r, EdgeRow)] == [("fluid", 1_200_500.0)]
    assert [(r.system, r.site) for r in rows if isinstance(r, NameRow)] == [("bms", "iad-1")]


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("[[rack]\n", "x.toml: is no TOML: "),
        ("[[racks]]\nname='R1'", "x.toml, column racks: is no table here; did you mean 'rack'?"),
        ("[[rack]]\nnmae='R1'", "x.toml, rack 1, column nmae: is no key here; did you mean 'name'?"),
        ("[[rack]]\nname='R1'\nnodes=-1", "x.toml, rack 1, column nodes: '-1' is no number from 0 to 1000"),
        ("[[rack]]\nname='R[9-1]'", "x.toml, rack 1, column name: 'R[9-1]': the range has no racks, or more than"),
        ("[[rack]]\nname='R['", "x.toml, rack 1, column name: 'R[' is no rack's name"),
        ("[[rack]]\nname='R1'\nnode='{rack.x}'", "x.toml, rack 1, column node: '{rack.x}': fields are {rack}, {n}"),
        ("[[rack]]\nname='R1'\nnodes=2\nnode='n{n}'", "x.toml, rack 1, column node: 'n{n}' gives parts of several"),
        ("[[asset]]\nkind=['rack']", "x.toml, asset 1, column kind: ['rack'] is no text and no number"),
        ("rack=[1]", "x.toml, rack 1: 1 is no table"),
    ],
)
def test_what_is_wrong_in_a_toml_file_is_named(text: str, mistake: str) -> None:
    assert mistakes(text, "x.toml")[0].startswith(mistake)


def test_a_line_about_a_place_comes_before_what_a_rack_unfolds_to() -> None:
    """The board's UUID is known for one GPU: that GPU is one asset, not two; and one node is in maintenance."""
    racks = read("a.toml", "[[rack]]\nname='R1'\nnodes=1\ngpus_per_node=2", "site-1", SINCE)
    lines = csv("asset,kind,rack,node,device,state\nGPU-1,gpu,R1,R1-N01,R1-N01-GPU0,\n,node,R1,R1-N01,,maintenance")
    rows, doubles = together([racks, lines])
    assert doubles == []
    assert {(a.asset, a.device, a.state) for a in rows if isinstance(a, AssetRow)} == {
        ("R1", "", "active"),
        ("R1-N01", "", "maintenance"),
        ("GPU-1", "R1-N01-GPU0", "active"),
        ("R1-N01-GPU1", "R1-N01-GPU1", "active"),
    }


def test_what_is_declared_twice_counts_where_it_stands_first() -> None:
    files = [read(name, "kind,rack,model\nrack,R1," + model, "s", SINCE) for name, model in (("a", "x"), ("b", "y"))]
    rows, doubles = together(files)
    assert [row.model for row in rows if isinstance(row, AssetRow)] == ["x"]
    assert [str(m) for m in doubles] == ["b, line 2: R1 stands in a, line 2 already"]
