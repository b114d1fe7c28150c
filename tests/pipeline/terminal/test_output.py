"""Files that commands write: a place that cannot be written is refused before anything is asked of the store."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from pipeline import api
from pipeline.cli import gigawatch
from pipeline.store.client import StoreError, open_folder
from pipeline.store.migrate import migrate
from tests.pipeline.sink.test_array_rows import rack, store


def run(*argv: object) -> tuple[int, str]:
    done = CliRunner().invoke(gigawatch, [str(a) for a in argv])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


@pytest.fixture
def factory(tmp_path: Path) -> Path:
    """A stopped factory's folder with a sample of one GPU."""
    folder = tmp_path / "factory"
    (folder / "clickhouse").mkdir(parents=True)
    client = open_folder(folder)
    migrate(client)
    store(client, "gpu", [rack("R1", ["=a"], temp_c=[59.0])])
    client.close()
    return folder


WRITERS = {
    "csv": ["history", "temp_c", "--csv"],
    "parquet": ["history", "temp_c", "--parquet"],
    "plot": ["history", "temp_c", "--plot"],
    "svg": ["top", "--once", "--svg"],
}


@pytest.mark.parametrize("ending", WRITERS)
def test_a_file_that_cannot_be_written_is_refused_before_the_store_is_opened(ending: str, tmp_path: Path) -> None:
    """There is no store: an error about the file shows that it was checked first."""
    suffix = "png" if ending == "plot" else ending
    nowhere = tmp_path / "none" / f"x.{suffix}"
    folder = tmp_path / f"folder.{suffix}"
    folder.mkdir()
    for path, complaint in (
        (nowhere, "is no folder: create it (mkdir -p"),
        (folder, "is a folder: name a file in it"),
        (Path("/proc") / f"x.{suffix}", "cannot be written"),
    ):
        code, output = run(*WRITERS[ending], path, "--data-dir", tmp_path / "nothing")
        assert code == 2
        assert complaint in output.replace("\n", " "), output
    code, output = run(*WRITERS[ending], tmp_path / f"x.{suffix}", "--data-dir", tmp_path / "nothing")
    assert "holds no factory's data" in output
    assert not (tmp_path / f"x.{suffix}").exists(), "the check leaves nothing behind"


def test_a_plot_is_a_picture(tmp_path: Path) -> None:
    code, output = run("history", "temp_c", "--plot", tmp_path / "x.xlsx", "--data-dir", tmp_path)
    assert code == 2
    assert "ends in none of .png, .svg, .pdf: name it x.png" in output


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/below"])
def test_a_recording_wants_a_folder_before_it_begins(place: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, output = run("record", tmp_path / place, "--data-dir", tmp_path / "nothing")
    assert code == 2
    assert ("is a file: name a folder" if "file" in place else "cannot be written") in output
    assert "no factory runs on" in run("record", tmp_path / "new" / "one", "--data-dir", tmp_path)[1]
    assert not (tmp_path / "new").exists()


def test_history_writes_csv_to_files_and_to_standard_output(factory: Path, tmp_path: Path) -> None:
    code, output = run("history", "temp_c", "--by", "device", "--csv", tmp_path / "x.csv", "--data-dir", factory)
    assert (code, output) == (0, f"1 rows -> {tmp_path / 'x.csv'}\n")
    code, output = run("history", "temp_c", "--by", "device", "--csv", "-", "--data-dir", factory)
    assert code == 0
    assert output == (tmp_path / "x.csv").read_text()
    head, row = output.splitlines()
    assert head == '"bucket","device","board","mean","max","samples"'
    assert row.split(",")[1:] == ['"\'=a"', '"GPU-=a"', "59", "59", "1"], (
        "a name that a spreadsheet would run is quoted"
    )
    assert not Path("-").exists()


def test_the_api_takes_a_folder_as_text_or_as_a_path(factory: Path, tmp_path: Path) -> None:
    assert api.history("temp_c", data_dir=str(factory)).num_rows == 1
    assert api.history("temp_c", data_dir=factory).column_names == [
        "bucket",
        "device",
        "board",
        "mean",
        "max",
        "samples",
    ]
    with pytest.raises(StoreError, match="holds no factory's data"):
        api.history("temp_c", data_dir=str(tmp_path))
    with pytest.raises(StoreError, match="name the --data-dir"):
        api.history("temp_c", data_dir="nowhere")
