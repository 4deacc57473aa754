"""Dependencies are pinned within their ranges, and each rule of the linter has its reason beside it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from house.modules import ROOT

PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
CONSTRAINTS = (ROOT / "constraints.txt").read_text(encoding="utf-8")


def pins(text: str) -> dict[str, str]:
    """Version of each package a constraints file pins."""
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines if line)}


def unpinned(requirements: Iterable[str], pinned: dict[str, str]) -> list[str]:
    """Requirements without a pin, or with one outside their range; the package's own extras need none."""
    found = []
    for requirement in map(Requirement, requirements):
        version = pinned.get(canonicalize_name(requirement.name))
        if requirement.name != "limner" and (version is None or not requirement.specifier.contains(version)):
            found.append(f"{requirement}: pinned to {version}")
    return found


def unreasoned(text: str) -> list[str]:
    """Items of the linter's lists of rules that stand without a remark."""
    section = text.partition("[tool.ruff.lint]")[2]
    items = re.findall(r'^    "[A-Z]+\d*",.*$', section, re.MULTILINE)
    return [item.strip() for item in items if not re.search(r"# \S", item)]


def test_every_direct_dependency_is_pinned() -> None:
    project = tomllib.loads(PROJECT)["project"]
    extras = [name for names in project["optional-dependencies"].values() for name in names]
    assert unpinned([*project["dependencies"], *extras], pins(CONSTRAINTS)) == []


def test_every_rule_of_the_linter_has_its_reason() -> None:
    assert unreasoned(PROJECT) == []


@pytest.mark.parametrize("text", ["", "torch==2.2", "torchlike==2.4"])
def test_a_missing_or_stray_pin_is_refused(text: str) -> None:
    assert len(unpinned(["torch>=2.3"], pins(text))) == 1
    assert unpinned(["torch>=2.3", "limner[test]"], pins("# remark\nTorch==2.4 # why\n")) == []


def test_a_rule_without_a_reason_is_refused() -> None:
    assert unreasoned('[tool.ruff.lint]\nselect = [\n    "A", # why\n    "B",\n]') == ['"B",']
