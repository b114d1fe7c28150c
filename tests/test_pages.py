"""Pages, pins and generated tables match the code."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pipeline import settings
from pipeline.commands.catalogue import other_names
from pipeline.compute.quality import REASONS
from schemas import catalogue
from tests.audit import verdict
from tests.conftest import ROOT


def test_docs_table_is_the_catalogue() -> None:
    assert (ROOT / "docs" / "catalogue.md").read_text() == catalogue.markdown(other_names()), "run `make docs`"


def test_every_package_has_a_page_and_the_flow_a_picture() -> None:
    docs = ROOT / "docs"
    for name in ("schemas", "producers", "compute", "stream", "store", "embedded", "dashboards"):
        assert (docs / f"{name}.md").exists(), f"docs/{name}.md"
    assert (docs / "flow.svg").exists()


def test_readme_links_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_everything_that_is_installed_is_pinned() -> None:
    """What the package and its extras need, and what those need in turn, stands in constraints.txt with the very
    version that is here.
    """
    pins = {
        canonicalize_name(name): version
        for name, _, version in (
            line.partition("==")
            for line in (ROOT / "constraints.txt").read_text().splitlines()
            if line and not line.startswith("#")
        )
    }
    assert all(version for version in pins.values()), "exact versions only"
    todo: list[tuple[str, tuple[str, ...]]] = [("gigawatch", ("embedded", "nvml", "plot", "dev"))]
    seen: set[tuple[str, tuple[str, ...]]] = set()
    while todo:
        name, extras = todo.pop()
        for line in importlib.metadata.requires(name) or ():
            wanted = Requirement(line)
            if wanted.marker is not None and not any(
                wanted.marker.evaluate({"extra": extra}) for extra in ("", *extras)
            ):
                continue
            key = canonicalize_name(wanted.name)
            if (key, tuple(sorted(wanted.extras))) not in seen:
                seen.add((key, tuple(sorted(wanted.extras))))
                todo.append((key, tuple(wanted.extras)))
    unpinned = {
        key
        for key, _ in seen
        if key != "gigawatch" and pins.get(canonicalize_name(key)) != importlib.metadata.version(key)
    }
    assert not unpinned, "not pinned, or another version: see constraints.txt"


def test_an_audit_fails_on_a_hole_and_says_when_it_was_none() -> None:
    good, unknown = {"name": "a", "version": "1", "vulns": []}, {"name": "b", "skip_reason": "not found"}
    bad = {"name": "c", "version": "2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["3"]}]}
    assert verdict({"dependencies": [good, bad]}) == (1, "packages with known holes:\nc 2: PYSEC-1, mended in 3")
    assert verdict({"dependencies": [unknown]})[1].startswith("audit: NOT DONE")
    assert verdict({"dependencies": [good, unknown]}) == (
        0,
        "audit: 1 packages looked up, no known holes; not looked up: b",
    )


def test_the_rules_of_data_quality_are_in_the_docs() -> None:
    page = (ROOT / "docs" / "reliability.md").read_text()
    for reason, rule in REASONS.items():
        assert f"| `{reason}` | {rule} |" in page


def test_every_setting_of_trust_is_in_the_docs() -> None:
    page = (ROOT / "docs" / "security.md").read_text()
    for setting in settings.SETTINGS:
        assert f"[{setting.service}]" in page, setting
        assert setting.name in page, setting


def test_the_supported_pythons_are_stated_once_and_alike() -> None:
    """What the package requires, its classifiers, ruff, mypy and the README."""
    body = tomllib.loads((ROOT / "pyproject.toml").read_text())
    named = re.findall(r"Python :: (3\.\d+)", " ".join(body["project"]["classifiers"]))
    assert body["project"]["requires-python"] == f">={named[0]}"
    assert body["tool"]["ruff"]["target-version"] == "py" + named[0].replace(".", "")
    assert body["tool"]["mypy"]["python_version"] == named[0]
    assert f"Python {', '.join(named[:-1])} or {named[-1]}" in (ROOT / "README.md").read_text()


def test_the_files_that_pages_name_exist() -> None:
    """Paths of the code and the tests, in CONTRIBUTING.md and in docs/."""
    pages = {page: page.read_text() for page in [ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]}
    folders = "pipeline|producers|schemas|dashboards|tests|docs"
    named = {(p.name, path) for p, text in pages.items() for path in re.findall(rf"`((?:{folders})/[\w./-]+)`", text)}
    assert len(named) > 20
    assert not {(page, path) for page, path in named if not (ROOT / path).exists()}
