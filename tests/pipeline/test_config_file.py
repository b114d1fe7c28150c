"""The config file: every option of every command, precedence, errors that name key, line and nearest name, and the
committed example.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from pipeline import settings
from pipeline.cli import gigawatch
from pipeline.commands import config_file
from pipeline.commands.config import text as example
from pipeline.settings import SettingsError, value
from tests.conftest import ROOT

PASSWORD = "correct horse"  # noqa: S105 - a test's own


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """A command fills this process's environment, which the next test must not inherit."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "gigawatch.toml"


def problems(file: Path, text: str) -> list[str]:
    file.write_text(text)
    return [line.removeprefix(f"{file}:") for line in config_file.read(file, gigawatch).problems]


def run(file: Path, text: str, *argv: str, env: dict[str, str] | None = None) -> Result:
    file.write_text(text)
    return CliRunner().invoke(gigawatch, ["--config", str(file), *argv], env=env)


def commands(group: click.Group, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    ctx = click.Context(group)
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        assert command is not None
        yield (*above, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*above, name))


# -- precedence ----------------------------------------------------------------------------------------------------


def test_a_default_gives_way_to_the_file_the_environment_and_the_command_line(file: Path) -> None:
    """Each address is refused by its form, so the error names the one that was taken."""

    def taken(text: str, *argv: str, env: dict[str, str] | None = None) -> str:
        done = run(file, text, "query", "hottest", "--data-dir", str(file.parent), *argv, env=env)
        assert done.exit_code == 1
        return done.output

    in_file, in_env = '[query]\nclickhouse = "from-file"\n', {"GIGAWATCH_CLICKHOUSE": "from-environment"}
    assert "holds no factory's data" in taken("")
    assert "'from-file'" in taken(in_file)
    assert "'from-environment'" in taken(in_file, env=in_env)
    assert "'from-line'" in taken(in_file, "--clickhouse", "from-line", env=in_env)


def test_an_argument_with_a_default_is_a_key_too(file: Path) -> None:
    assert "NVL72-VR200" in run(file, '[catalogue]\nwhich = "hardware"\n', "catalogue").output
    assert "NVL72-VR200" not in run(file, '[catalogue]\nwhich = "hardware"\n', "catalogue", "gpu").output


def test_dashes_and_underscores_are_the_same(file: Path) -> None:
    for key in ("max-rows", "max_rows"):
        assert problems(file, f"[sink]\n{key} = 5\n") == []
        assert config_file.read(file, gigawatch).defaults == {"sink": {"max_rows": 5}}
    assert "set twice" in problems(file, "[sink]\nmax-rows = 5\nmax_rows = 6\n")[0]


def test_a_section_of_a_subcommand_reaches_it(file: Path) -> None:
    done = run(file, '[dashboards.push]\nurl = "http://127.0.0.1:1"\n', "dashboards", "push")
    assert "GIGAWATCH_GRAFANA_TOKEN" in done.output, "it is past its required --url"


def test_paths_are_relative_to_the_file(file: Path) -> None:
    problems(file, '[produce]\nspool = "spool"\n[tail]\ndata-dir = "/abs"\n')
    found = config_file.read(file, gigawatch).defaults
    assert found == {"produce": {"spool": str(file.parent / "spool")}, "tail": {"data_dir": "/abs"}}


def test_the_environment_may_name_the_file_and_an_option_comes_before_it(file: Path) -> None:
    file.write_text('[catalogue]\nwhich = "hardware"\n')
    other = file.with_name("other.toml")
    other.write_text('[catalogue]\nwhich = "cooling"\n')
    env = {"GIGAWATCH_CONFIG": str(file)}
    assert "NVL72-VR200" in CliRunner().invoke(gigawatch, ["catalogue"], env=env).output
    assert "flow_lpm" in CliRunner().invoke(gigawatch, ["--config", str(other), "catalogue"], env=env).output


def test_a_benchmark_measures_defaults_and_not_the_file(file: Path) -> None:
    done = run(file, "[sink]\nmax-rows = 5\n", "bench", "scale")
    assert done.exit_code == 0, done.output
    assert "GIGAWATCH_CONFIG" not in os.environ


def test_the_processes_of_a_factory_read_the_same_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    file.write_text("[sink]\nmax-rows = 5\n")
    CliRunner().invoke(gigawatch, ["--config", file.name, "catalogue"])
    assert os.environ["GIGAWATCH_CONFIG"] == str(file)


# -- services ------------------------------------------------------------------------------------------------------


def test_services_fill_what_the_environment_leaves_open(file: Path) -> None:
    assert not problems(
        file, '[kafka]\nca = "ca.pem"\nuser = "writer"\npassword_file = "pw"\n[clickhouse]\nca = "system"\n'
    )
    env = {"GIGAWATCH_KAFKA_USER": "someone"}
    config_file.read(file, gigawatch).fill(env)
    assert env == {
        "GIGAWATCH_KAFKA_USER": "someone",
        "GIGAWATCH_KAFKA_CA": str(file.parent / "ca.pem"),
        "GIGAWATCH_KAFKA_PASSWORD_FILE": str(file.parent / "pw"),
        "GIGAWATCH_CLICKHOUSE_CA": "system",
    }


def test_a_password_file_of_the_environment_comes_before_a_password_of_the_config_file(file: Path) -> None:
    file.write_text('[kafka]\npassword = "from the config file"\n')
    file.chmod(0o600)
    secret = file.parent / "pw"
    secret.write_text(PASSWORD)
    env = {"GIGAWATCH_KAFKA_PASSWORD_FILE": str(secret)}
    config_file.load(file, gigawatch).fill(env)
    assert value("kafka", "password", env) == PASSWORD


def test_a_section_that_is_a_service_and_a_command_takes_the_keys_of_both(file: Path) -> None:
    assert not problems(file, '[clickhouse]\nuser = "reader"\nport = 18124\n[watch]\ntoken_file = "t"\nport = 18081\n')
    found = config_file.read(file, gigawatch)
    assert found.defaults == {"clickhouse": {"port": 18124}, "watch": {"port": 18081}}
    assert set(found.environment) == {"GIGAWATCH_CLICKHOUSE_USER", "GIGAWATCH_WATCH_TOKEN_FILE"}


def test_no_key_is_an_option_and_a_setting_at_once() -> None:
    for names, command in commands(gigawatch):
        if names[0] in settings.SERVICES:
            both = {k.replace("-", "_") for k in config_file.keys(command)} & set(settings.config_keys(names[0]))
            assert not both, names


@pytest.mark.parametrize(
    "text", [f'[kafka]\npassword = "{PASSWORD}"\n', '[query]\nclickhouse = "http://me:correcthorse@127.0.0.1:1"\n']
)
def test_a_file_with_a_password_is_for_its_owner_alone(file: Path, text: str) -> None:
    file.write_text(text)
    file.chmod(0o640)
    with pytest.raises(SettingsError, match="chmod 600") as caught:
        config_file.load(file, gigawatch)
    assert "correct" not in str(caught.value)
    file.chmod(0o600)
    found = config_file.load(file, gigawatch)
    assert "correct" not in "".join(found.values)
    assert "(hidden)" in found.values[0]


# -- errors --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("\n[up]\nrakcs = 3\n", "3: [up] has no key 'rakcs': did you mean racks?"),
        ('[up]\nracks = "4"\n', '2: [up] racks: it must be a whole number, not "4"'),
        ("[up]\nracks = true\n", "2: [up] racks: it must be a whole number, not true"),
        ('[up]\nspeed = "2"\n', '2: [up] speed: it must be a number, not "2"'),
        ("[up]\nsource = 3\n", "2: [up] source: it must be text, not 3"),
        ("[up]\nquiet = 1\n", "2: [up] quiet: it must be true or false, not 1"),
        ('[up]\nfault = "leak"\n', '2: [up] fault: it must be a list of texts, not "leak"'),
        ("[up]\nracks = 0\n", "2: [up] racks: 0 is not in the range x>=1."),
        ('[history]\nby = "rak"\n', "2: [history] by: 'rak' is not one of 'board', 'device', 'rack', 'job', 'site'."),
        ("[snik]\n", "1: no section [snik]: did you mean [sink]?"),
        ("[dashboards.psuh]\n", "1: no section [dashboards.psuh]: did you mean [dashboards.push]?"),
        ("[dashboards]\nurl = 'x'\n", "2: [dashboards] has no key 'url'; its keys stand in the sections"),
        ("[config]\n", "1: no section [config]"),
        ('[kafka]\nusr = "x"\n', "2: [kafka] has no key 'usr': did you mean user?"),
        ('[kafka]\nca_file = "x"\n', "2: [kafka] has no key 'ca_file'"),
        ("[kafka]\nuser = 3\n", "2: [kafka] user: it must be text"),
        ('racks = "x"\n', "1: 'racks' stands outside a section"),
        ("[kafka\n", " it is not TOML: "),
    ],
)
def test_a_mistake_is_named_with_its_line_and_the_nearest_name(file: Path, text: str, complaint: str) -> None:
    found = problems(file, text)
    assert len(found) == 1
    assert found[0].startswith(complaint)
    with pytest.raises(SettingsError, match=f"config file {file}"):
        config_file.load(file, gigawatch)


def test_a_command_does_not_run_with_a_wrong_file(file: Path) -> None:
    done = run(file, "[up]\nrakcs = 3\n[snik]\n", "catalogue")
    assert done.exit_code == 1
    assert done.output == (
        f"gigawatch: config file {file}:2: [up] has no key 'rakcs': did you mean racks? "
        f"(1 more: `gigawatch config check {file}`)\n"
    )
    missing = CliRunner().invoke(gigawatch, ["--config", str(file) + "x", "catalogue"])
    assert missing.exit_code == 1
    assert "it cannot be read: No such file" in missing.output


# -- gigawatch config ----------------------------------------------------------------------------------------------


def test_check_lists_what_a_file_sets(file: Path) -> None:
    file.write_text('[up]\nracks = 64\n[kafka]\nuser = "writer"\n')
    done = CliRunner().invoke(gigawatch, ["config", "check", str(file)])
    assert done.exit_code == 0, done.output
    assert done.output.splitlines()[1:] == ["  [up] racks = 64", "  [kafka] user = writer"]


def test_check_lists_every_problem_even_of_the_file_in_use(file: Path) -> None:
    for argv in (["config", "check", str(file)], ["--config", str(file), "config", "check"]):
        file.write_text("[up]\nrakcs = 3\nspeed = true\n[snik]\n")
        done = CliRunner().invoke(gigawatch, argv)
        assert done.exit_code == 1
        assert [line.split(":")[1] for line in done.output.splitlines()[:3]] == ["2", "3", "4"]
        assert "3 problems in" in done.output


def test_check_without_a_file_asks_for_one() -> None:
    done = CliRunner().invoke(gigawatch, ["config", "check"], env={"GIGAWATCH_CONFIG": None})
    assert done.exit_code == 1
    assert "give FILE, --config or GIGAWATCH_CONFIG" in done.output


def test_the_committed_example_is_the_printed_one() -> None:
    printed = CliRunner().invoke(gigawatch, ["config", "example"]).output
    assert (ROOT / "docs" / "gigawatch.example.toml").read_text() == printed, "run `make docs`"


def test_the_example_has_every_option_of_every_command_and_loads_without_its_comments(file: Path) -> None:
    bare = "\n".join(
        line[1:] if line.startswith("#") and not line.startswith("# ") else line
        for line in example(gigawatch).splitlines()
    )
    file.write_text(bare)
    file.chmod(0o600)
    found = config_file.load(file, gigawatch)
    for names, command in commands(gigawatch):
        at = found.defaults
        for name in names:
            at = at.get(name, {})
        visible = {o.name for o in command.params if isinstance(o, click.Option) and not o.hidden}
        assert names[0] == "config" or visible <= set(at), names
    assert {s.variable for s in settings.SETTINGS} <= set(found.environment)
