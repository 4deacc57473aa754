from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from limner import check
from limner.config import Settings, checked, load, save


class Leg(Settings):
    """One of several parts."""

    name: str
    length: Annotated[float, Field(gt=0)] = 1.0
    joints: Annotated[tuple[int, ...], Field(min_length=1, max_length=3)] | None = None


class Table(Settings):
    """A piece of furniture."""

    colour: Literal["red", "blue"] = "red"
    folds: bool = False
    made: Annotated[int, Field(ge=1900)] = 2000
    place: Path | None = None
    top: Leg | None = None
    legs: tuple[Leg, ...] = ()
    extras: dict[str, object] = Field(default_factory=dict)


WRITTEN = """
colour = "blue"
[top]
name = "oak"
[[legs]]
name = "left"
length = 2
[[legs]]
name = "right"
joints = [1, 2]
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "table.toml").write_text(WRITTEN)
    return tmp_path / "table.toml"


def test_a_file_becomes_settings(path: Path) -> None:
    found = load(path, Table)
    legs = (Leg(name="left", length=2), Leg(name="right", joints=(1, 2)))
    assert found == Table(colour="blue", top=Leg(name="oak"), legs=legs)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("made=1950", {"made": 1950}),
        (" folds = true ", {"folds": True}),
        ("colour=red", {"colour": "red"}),
        ('colour="red"', {"colour": "red"}),
        ("place=/a/b=c.nii", {"place": Path("/a/b=c.nii")}),
        ("top.name=elm", {"top": Leg(name="elm")}),
        ("top=", {"top": None}),
        ("folds=", {"folds": False}),
        ("extras.a.b=[1, 2]", {"extras": {"a": {"b": [1, 2]}}}),
        ("extras.a=1\nmade = 1950", {"extras": {"a": "1\nmade = 1950"}}),
    ],
)
def test_an_override_changes_one_value(path: Path, override: str, expected: dict[str, object]) -> None:
    before, found = load(path, Table), load(path, Table, overrides=[override])
    assert found == before.model_copy(update=expected)


@pytest.mark.parametrize("part", ["legs[1].length", "legs.1.length", "legs.right.length"])
def test_entries_of_a_list_are_called_by_number_or_name(path: Path, part: str) -> None:
    assert [leg.length for leg in load(path, Table, overrides=[f"{part}=7"]).legs] == [2, 7]


def test_an_entry_of_a_list_can_be_taken_away(path: Path) -> None:
    assert [leg.name for leg in load(path, Table, overrides=["legs.0="]).legs] == ["right"]


def test_later_overrides_win(path: Path) -> None:
    assert load(path, Table, overrides=["made=1950", "made=1960"]).made == 1960


MISTAKES = [
    ("legs[1].lenght=3", "has the unknown setting legs[1].lenght; expected one of name, length, joints: did you mean"),
    ("top.lenght=3", "has the unknown setting top.lenght; expected one of name, length, joints: did you mean 'length'"),
    ("color=red", "has the unknown setting color; expected one of colour, folds, made, place, top, legs, extras: did"),
    ("zzz=1", "expected one of colour, folds, made, place, top, legs, extras: correct the name"),
    ("top.name=", "lacks the setting top.name; expected a value: add it to the file, or --set top.name=VALUE"),
    ("legs[0].length=0", "sets legs[0].length to 0; expected a number above 0: correct the value"),
    ("legs[0].length=long", "sets legs[0].length to 'long'; expected a number: correct the value"),
    ("legs[0].length=nan", "sets legs[0].length to nan; expected a finite number: correct the value"),
    ("legs[0].joints=2", "sets legs[0].joints to 2; expected a list in square brackets: correct the value"),
    ("legs[0].joints=[]", "sets legs[0].joints to []; expected at least 1 values: correct the value"),
    ("legs[0].joints=[1, 2, 3, 4]", "sets legs[0].joints to [1, 2, 3, 4]; expected at most 3 values: correct the"),
    ("legs[0].joints=[1, 'x']", "sets legs[0].joints[1] to 'x'; expected a whole number: correct the value"),
    ("legs=3", "sets legs to 3; expected a list in square brackets: correct the value"),
    ("top=3", "sets top to 3; expected a table of settings: correct the value"),
    ("extras=3", "sets extras to 3; expected a table of settings: correct the value"),
    ("made=1.5", "sets made to 1.5; expected a whole number: correct the value"),
    ("made='1950'", "sets made to '1950'; expected a whole number: correct the value"),
    ("made=true", "sets made to true; expected a whole number: correct the value"),
    ("made=7", "sets made to 7; expected a number of at least 1900: correct the value"),
    ("folds=1", "sets folds to 1; expected true or false: correct the value"),
    ("colour=green", "sets colour to 'green'; expected 'red' or 'blue': correct the value"),
    ("top.name=3", "sets top.name to 3; expected text in quotes: correct the value"),
    ("place=3", "sets place to 3; expected text in quotes: correct the value"),
]


@pytest.mark.parametrize(("override", "message"), MISTAKES)
def test_a_mistake_is_told_by_its_place(path: Path, override: str, message: str) -> None:
    with pytest.raises(check.InputError) as refused:
        load(path, Table, overrides=[override])
    assert str(refused.value).startswith(f"'{path}' ")
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("made", "override 'made' has no key or no '='; expected KEY=VALUE, such as stages.0.steps=100"),
        ("=3", "override '=3' has no key or no '='"),
        ("legs..length=3", "has no key or no '='"),
        ("legs[2].length=3", "leads nowhere at '2'; expected one of left, right: correct the key"),
        ("legs.middle.length=3", "leads nowhere at 'middle'; expected one of left, right: correct the key"),
        ("colour.hue=3", "leads nowhere at 'hue'; expected no more parts, as a single value has none: correct the key"),
    ],
)
def test_an_override_that_leads_nowhere(path: Path, override: str, message: str) -> None:
    with pytest.raises(check.InputError) as refused:
        load(path, Table, overrides=[override])
    assert message in str(refused.value)


def test_files_that_are_no_settings(tmp_path: Path) -> None:
    with pytest.raises(check.InputError, match="does not exist; expected a file: check the path"):
        load(tmp_path / "none.toml", Table)
    (tmp_path / "page.toml").write_text("<html>")
    with pytest.raises(check.InputError, match=r"page.toml' cannot be read as TOML \(Invalid statement \(at line 1, "):
        load(tmp_path / "page.toml", Table)
    (tmp_path / "binary.toml").write_bytes(b"\x80\xff\x00")
    with pytest.raises(check.InputError, match="binary.toml' cannot be read as TOML"):
        load(tmp_path / "binary.toml", Table)


def test_values_from_elsewhere_say_where_they_stand() -> None:
    with pytest.raises(check.InputError, match=r"'run.toml' sets method.options.length to 'x'; expected a number"):
        checked({"name": "a", "length": "x"}, Leg, source="run.toml", under="method.options")


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Leg(name="a").length = 3


def test_saving_to_a_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(check.InputError, match="cannot be written .* create its folder first"):
        save(Table(), tmp_path / "none" / "table.toml")
    assert list(tmp_path.iterdir()) == []


legs = st.builds(
    Leg,
    name=st.text(st.characters(codec="utf-8"), max_size=5),
    length=st.floats(min_value=1e-300, max_value=1e300),
    joints=st.none() | st.lists(st.integers(-(2**40), 2**40), min_size=1, max_size=3).map(tuple),
)
extras = st.dictionaries(st.text("abc", min_size=1), st.booleans() | st.integers(-9, 9) | st.text("x'\"\n", max_size=3))


@given(table=st.builds(Table, top=st.none() | legs, legs=st.lists(legs, max_size=2).map(tuple), extras=extras))
def test_what_is_saved_is_loaded(tmp_path_factory: pytest.TempPathFactory, table: Table) -> None:
    path = tmp_path_factory.getbasetemp() / "saved.toml"
    save(table, path)
    assert load(path, Table) == table
    assert "folds = false" in path.read_text(encoding="utf-8")
