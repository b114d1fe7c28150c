"""A source is one folder: what the command line, `up`, `doctor` and the docs show of it follows from its settings."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click import Context
from click.testing import CliRunner

from pipeline.cli import gigawatch
from pipeline.commands.catalogue import with_table
from pipeline.commands.produce import produce
from pipeline.commands.up import up
from producers.sources import registry
from producers.sources.options import BuildContext, Option, option
from producers.sources.source import Source, SourceError
from tests.conftest import ROOT

NOW = BuildContext(1_750_000_000.4)


def params(command: Any, words: list[str]) -> dict[str, Any]:
    context: Context = command.make_context(command.name, list(words))
    return context.params


def other_than_the_default(each: Option) -> Any:
    """A value that the command line can give and that is not the default."""
    if each.multiple:
        return ("a=b c", "--d")
    return {int: 7, float: 2.5, bool: True, str: "x-1"}[each.type]


def words(each: Option) -> list[str]:
    value = other_than_the_default(each)
    if each.multiple:
        return [word for one in value for word in (each.flag, one)]
    return [each.flag] if each.type is bool else [each.flag, str(value)]


@pytest.mark.parametrize("name", registry.SOURCES)
def test_every_option_of_every_source_survives_up(name: str) -> None:
    kind = registry.SOURCES[name]
    given = kind.form.replace("PATH", "a b.csv")
    asked = params(up, ["--source", given, *(word for each in kind.options for word in words(each))])
    got = params(produce, list(registry.argv(given, asked)))
    assert got["source"] == given
    assert {o.field: got[o.field] for o in kind.options} == {o.field: other_than_the_default(o) for o in kind.options}


@pytest.mark.parametrize("name", registry.SOURCES)
def test_defaults_survive_up(name: str) -> None:
    kind = registry.SOURCES[name]
    got = params(produce, list(registry.argv(kind.form, params(up, ["--source", kind.form]))))
    assert {o.field: got[o.field] for o in kind.options} == {o.field: o.default for o in kind.options}


def test_the_options_are_what_users_know() -> None:
    assert {(o.flag, o.field): o.default for o in registry.options()} == {
        ("--racks", "racks"): 4,
        ("--gpu", "model"): "GB200",
        ("--tick", "tick_s"): 1.0,
        ("--seed", "seed"): 0,
        ("--fault", "faults"): (),
        ("--job-changes", "job_changes"): 0.0,
        ("--site", "site"): "",
        ("--endpoint", "endpoints"): (),
        ("--inventory", "files"): (),
        ("--netbox-url", "url"): "",
        ("--netbox-token-file", "token_file"): "",
        ("--netbox-ca", "ca"): "",
        ("--netbox-every", "every_s"): 900.0,
        ("--kubelet-socket", "kubelet_socket"): "/var/lib/kubelet/pod-resources/kubelet.sock",
        ("--node-name", "node_name"): "",
        ("--skip-namespace", "skip_namespaces"): (),
        ("--slurm-url", "slurm_url"): "",
        ("--slurm-user", "slurm_user"): "",
        ("--slurm-token-file", "slurm_token_file"): "",
        ("--slurm-ca", "slurm_ca"): "",
        ("--slurm-command", "slurm_command"): "",
        ("--slurm-places", "slurm_places"): "",
        ("--slurm-every", "slurm_every_s"): 10.0,
        ("--speed", "speed"): 1.0,
        ("--keep-time", "keep_time"): False,
        ("--back", "back_s"): None,
        ("--ticks", "ticks"): None,
    }
    assert list(registry.SOURCES) == [
        "synthetic",
        "dcgm",
        "inventory",
        "kubernetes",
        "netbox",
        "nvml",
        "premade",
        "replay",
        "slurm",
    ]
    assert [s.name for s in registry.shown()] == [
        "synthetic",
        "dcgm",
        "inventory",
        "kubernetes",
        "netbox",
        "nvml",
        "replay",
        "slurm",
    ]


@pytest.mark.parametrize("words", [["--racks", "0"], ["--tick", "0"], ["--speed", "-1"], ["--ticks", "0"]])
def test_numbers_have_bounds(words: list[str]) -> None:
    answer = CliRunner().invoke(gigawatch, ["produce", *words])
    assert answer.exit_code == 2
    assert f"'{words[0]}'" in answer.output


def test_sources_build_with_their_options() -> None:
    values = params(produce, ["synthetic", "--racks", "2", "--gpu", "H100", "--back", "60", "--speed", "0"])
    assert registry.build("synthetic", values, NOW).describe.startswith("synthetic: 2 x HGX-H100")
    assert "per node" in registry.build("premade:100/node", values, NOW).describe
    values = params(produce, ["dcgm", "--endpoint", "http://h", "--endpoint", "http://g", "--tick", "5"])
    assert registry.build("dcgm", values, NOW).describe == "dcgm-exporter: 2 endpoint(s), scraped every 5 s"


def test_a_start_in_the_past_is_a_tick() -> None:
    assert NOW.start_ms(60, 5.0) == 1_749_999_940_000
    assert NOW.start_ms(None, 5.0) is None


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        (
            "nosuch",
            "no source 'nosuch': it is synthetic, dcgm, inventory, kubernetes, netbox, nvml, replay:PATH or slurm",
        ),
        ("replay", "source 'replay': it is replay:PATH"),
        ("dcgm:http://h", "source 'dcgm:http://h': it is dcgm"),
        ("premade:many", "premade:10000/rack"),
        ("dcgm", "no dcgm-exporter endpoint given"),
    ],
)
def test_a_wrong_source_says_what_it_is(given: str, complaint: str) -> None:
    with pytest.raises(SourceError, match=complaint):
        registry.build(given, params(produce, []), NOW)


def test_one_option_has_one_meaning(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True, slots=True)
    class Other:
        racks: str = option("--racks", "none", "Something else.")

        def build(self, _: BuildContext) -> Source:
            raise NotImplementedError

    kinds = {**registry.SOURCES, "other": registry.SourceType("other", "another", Other)}
    monkeypatch.setattr(registry, "SOURCES", kinds)
    with pytest.raises(registry.RegistryError, match=r"source other: --racks \(racks\) differs"):
        registry.options()


def test_one_name_is_one_source() -> None:
    with pytest.raises(registry.RegistryError, match=r"'dcgm' is registered by producers\.sources\.dcgm already"):
        registry.source("dcgm", help="again")(registry.SOURCES["nvml"].settings)


def test_every_source_has_a_page() -> None:
    for kind in registry.SOURCES.values():
        page = (kind.folder / "README.md").read_text()
        for each in kind.options:
            assert each.hidden or each.flag in page, f"{kind.folder}/README.md has no word on {each.flag}"


def test_the_docs_have_todays_table_of_sources() -> None:
    page = (ROOT / "docs" / "producers.md").read_text()
    assert page == with_table(page), "run `make docs`"


def test_an_old_table_of_sources_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "producers.md"
    page.write_text("# x\n<!-- sources: made by `make docs` -->\nold\n<!-- /sources -->\nrest\n")
    run = CliRunner().invoke
    assert (
        "has an old table of sources" in run(gigawatch, ["catalogue", "sources", "--page", str(page), "--check"]).output
    )
    assert run(gigawatch, ["catalogue", "sources", "--page", str(page)]).exit_code == 0
    assert run(gigawatch, ["catalogue", "sources", "--page", str(page), "--check"]).exit_code == 0
    assert "README.md) | dcgm-exporters" in page.read_text()
    assert page.read_text().endswith("<!-- /sources -->\nrest\n")
    page.write_text("# x\n")
    assert "no place for the table" in run(gigawatch, ["catalogue", "sources", "--page", str(page)]).output


NEW = '''
"""Weather stations."""
from dataclasses import dataclass
from producers.sources.options import BuildContext, option, tick
from producers.sources.registry import source

@source("weather", help="weather stations: give each with --station")
@dataclass(frozen=True, slots=True)
class WeatherSettings:
    stations: tuple[str, ...] = option("--station", (), "weather: a station. May be repeated.", metavar="CODE")
    celsius: bool = option("--celsius", False, "weather: degrees of Celsius.")
    height_m: float | None = option("--height", None, "weather: above the ground.", type=float, minimum=0)
    tick_s: float = tick()

    def build(self, context: BuildContext) -> "Weather":
        return Weather(self)

    @staticmethod
    def readiness() -> tuple[bool, str]:
        return False, "no barometer here"

class Weather:
    def __init__(self, settings: WeatherSettings) -> None:
        self.describe = f"weather of {', '.join(settings.stations)}"

    async def emissions(self):
        return
        yield
'''

ASKS = """
import json, sys
from producers import sources
sources.__path__.append(sys.argv[1])
from click.testing import CliRunner
from pipeline.cli import gigawatch
from pipeline.commands.produce import produce
from pipeline.commands.sources import make_source
from pipeline.commands.up import _producer, up
from pathlib import Path
words = ["--source", "weather", "--station", "EGLL", "--station", "a b", "--celsius", "--height", "2", "--tick", "5"]
argv = _producer("weather", up.make_context("up", words).params, Path("data"))
got = produce.make_context("produce", list(argv)).params
run = CliRunner().invoke
print(json.dumps({
    "argv": argv, "got": [got[n] for n in ("source", "stations", "celsius", "height_m", "tick_s")],
    "describe": make_source("weather", got).describe,
    "produce": run(gigawatch, ["produce", "--help"]).output,
    "up": run(gigawatch, ["up", "--help"]).output,
    "doctor": run(gigawatch, ["doctor", "--data-dir", sys.argv[1]]).output,
    "docs": run(gigawatch, ["catalogue", "sources", "--markdown"]).output,
}))
"""


def run(script: str, *arguments: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", script, *arguments], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    ).stdout


def test_a_folder_with_one_file_is_a_source_everywhere(tmp_path: Path) -> None:
    (tmp_path / "weather").mkdir()
    (tmp_path / "weather" / "__init__.py").write_text(NEW)
    found = json.loads(run(ASKS, str(tmp_path)))
    assert found["argv"] == [
        *("weather", "--station", "EGLL", "--station", "a b", "--celsius", "--height", "2.0", "--tick", "5.0"),
        *("--spool", "data/spool"),
    ]
    assert found["got"] == ["weather", ["EGLL", "a b"], True, 2.0, 5.0]
    assert found["describe"] == "weather of EGLL, a b"
    for command in ("produce", "up"):
        assert "--station CODE" in found[command]
        assert "--celsius" in found[command]
    assert "  weather              weather stations: give each with --station\n" in found["produce"]
    assert "replay:PATH, slurm, weather, or" in " ".join(found["up"].split())
    assert "note  weather         no barometer here\n" in found["doctor"]
    cells = ["`weather`", "weather stations: give each with --station"]
    cells.append("`--station CODE`, `--celsius`, `--height`, `--tick`")
    assert f"| {' | '.join(cells)} |\n" in found["docs"]


def test_the_command_line_reads_the_sources_without_what_they_need() -> None:
    script = "import sys; from producers.sources import registry; registry.options(); print(' '.join(sys.modules))"
    loaded = set(run(script).split())
    heavy = {
        "aiohttp",
        "pynvml",
        "pyarrow.parquet",
        *(f"producers.sources.{n}.source" for n in ("dcgm", "nvml", "replay")),
    }
    assert "producers.sources.dcgm" in loaded
    assert not heavy & loaded
