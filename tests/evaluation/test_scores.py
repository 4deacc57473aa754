from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from limner.check import InputError
from limner.evaluation import METRICS, Row, evaluate
from limner.files import open_volume
from limner.space import Grid, LabelTable, Volume

TABLE = LabelTable.freesurfer()
TWELVE = 12


def volume(data: np.ndarray, spacing: tuple[float, ...] = (1, 1, 1)) -> Volume:
    return Volume(data, Grid(data.shape, np.diag([*spacing, 1])), "labels")


def table_of(rows: list[Row]) -> dict[tuple[str, str], float]:
    """Values by structure and metric; every row there once."""
    values = {(row["structure"], row["metric"]): row["value"] for row in rows}
    assert len(values) == len(rows)
    return values


def amygdalae() -> np.ndarray:
    """Left and right amygdala of 4 x 4 x 3 voxels each, in a frame of white matter and of lesions beside it."""
    data = np.zeros((16, 10, 9), dtype=np.int32)
    data[1:15, 1:9, 1:8] = 2
    data[12:15, 1:9, 1:8] = 77
    data[2:6, 3:7, 3:6] = 18
    data[7:11, 3:7, 3:6] = 54
    return data


def test_left_and_right_are_scored_as_one_structure() -> None:
    data = amygdalae()
    swapped = np.select([data == 18, data == 54], [54, 18], data)
    values = table_of(evaluate(volume(swapped), volume(data), table=TABLE, case="a"))
    assert values["amygdala", "dice"] == 1
    assert values["amygdala", "hd95"] == values["amygdala", "asd"] == 0
    assert values["amygdala", "volume"] == values["amygdala", "reference_volume"] == 96


def test_each_label_by_itself() -> None:
    data = amygdalae()
    swapped = np.select([data == 18, data == 54], [54, 18], data)
    rows = evaluate(volume(swapped), volume(data), table=TABLE, case="a", merged=False)
    values = table_of(rows)
    names = [TABLE[label].name for label in (2, 18, 54, 77)]
    assert list(dict.fromkeys(row["structure"] for row in rows)) == [*names, "mean"]
    assert values[names[1], "dice"] == values[names[2], "dice"] == 0
    assert values[names[1], "hd95"] == 5
    assert values["mean", "structures"] == 4


def test_voxel_size_enters_distances_and_volumes() -> None:
    data = amygdalae()
    shifted = np.where(data == 18, 2, data)
    shifted[2:6, 3:7, 4:7] = 18
    rows = evaluate(
        volume(shifted, (1, 1, 2.5)), volume(data, (1, 1, 2.5)), table=TABLE, case="a", structures=["amygdala"]
    )
    values = table_of(rows)
    assert values["amygdala", "hd95"] == 2.5
    assert values["amygdala", "volume"] == 240
    assert values["amygdala", "dice"] == pytest.approx(2 * (48 + 32) / 192)


def test_labels_of_no_scored_structure_stay_out() -> None:
    data = amygdalae()
    folded = np.where(data == 77, 2, data)
    values = table_of(evaluate(volume(folded), volume(data), table=TABLE, case="a"))
    lesions, white = (data == 77).sum(), (data == 2).sum()
    assert values["cerebral white matter", "dice"] == pytest.approx(2 * white / (2 * white + lesions))
    assert not {"background", "rest"} & {structure for structure, _ in values}


def test_structures_that_neither_has_are_left_out_of_the_mean() -> None:
    data = amygdalae()
    without = np.where(np.isin(data, (18, 54)), 2, data)
    values = table_of(evaluate(volume(without), volume(data), table=TABLE, case="a"))
    assert np.isnan([values["pallidum", metric] for metric in ("dice", "hd95", "asd")]).all()
    assert values["pallidum", "volume"] == 0
    assert (values["amygdala", "dice"], values["amygdala", "hd95"], values["amygdala", "asd"]) == (0, np.inf, np.inf)
    assert values["mean", "structures"] == 2
    assert values["mean", "dice"] == values["cerebral white matter", "dice"] / 2
    assert values["mean", "hd95"] == np.inf


def test_nothing_to_score_has_no_mean() -> None:
    empty = volume(np.zeros((3, 3, 3), dtype=np.int32))
    values = table_of(evaluate(empty, empty, table=TABLE, case="a"))
    assert values["mean", "structures"] == 0
    assert np.isnan(values["mean", "dice"])
    assert list(table_of(evaluate(empty, empty, table=TABLE, case="a", merged=False))) == [
        ("mean", metric) for metric in ("dice", "hd95", "asd", "structures")
    ]


def test_rows_are_complete_and_in_order() -> None:
    data = volume(amygdalae())
    rows = evaluate(data, data, table=TABLE, case="a")
    assert {row["case"] for row in rows} == {"a"}
    assert len(rows) == 5 * TWELVE + 4
    assert [row["metric"] for row in rows[:5]] == ["dice", "hd95", "asd", "volume", "reference_volume"]
    assert {row["metric"] for row in rows} == set(METRICS)
    assert all(type(row["value"]) is float for row in rows)


def test_overlap_alone() -> None:
    data = volume(amygdalae())
    rows = evaluate(data, data, table=TABLE, case="a", structures=["amygdala", "pallidum"], distances=False)
    assert [(row["structure"], row["metric"]) for row in rows] == [
        *[(name, metric) for name in ("amygdala", "pallidum") for metric in ("dice", "volume", "reference_volume")],
        ("mean", "dice"),
        ("mean", "structures"),
    ]


def test_two_dimensional_labels() -> None:
    data = Volume(np.eye(4, dtype=np.int32) * 18, Grid((4, 4), np.diag([2, 2, 1])), "labels")
    assert table_of(evaluate(data, data, table=TABLE, case="a"))["amygdala", "volume"] == 16


def test_other_grids_are_refused() -> None:
    data = amygdalae()
    with pytest.raises(InputError, match=r"prediction of 'sub-07' has shape \(8, 10, 9\) but its reference has"):
        evaluate(volume(data[::2]), volume(data), table=TABLE, case="sub-07")
    with pytest.raises(InputError, match="prediction of 'sub-07' has another affine than its reference"):
        evaluate(volume(data, (1, 1, 2)), volume(data), table=TABLE, case="sub-07")


def test_images_are_refused() -> None:
    data = amygdalae()
    image = Volume(data.astype(np.float32), volume(data).grid, "image")
    with pytest.raises(InputError, match="reference of 'a' was opened as an image; expected labels: open it with kind"):
        evaluate(volume(data), image, table=TABLE, case="a")


def test_unknown_labels_are_refused() -> None:
    data = amygdalae()
    odd = np.where(data == 77, 9999, data)
    with pytest.raises(InputError, match=r"reference of 'sub-07'.* has labels .*: 9999 \(168 voxels\).*--labels"):
        evaluate(volume(data), volume(odd), table=TABLE, case="sub-07")


def test_unknown_structures_are_refused() -> None:
    data = volume(amygdalae())
    with pytest.raises(InputError, match="structure 'amigdala' is not in the label table; expected one of background"):
        evaluate(data, data, table=TABLE, case="a", structures=["amigdala"])


@pytest.fixture(scope="module")
def aseg() -> Volume:
    folder = os.environ.get("LIMNER_DATA")
    if not folder:
        pytest.skip("LIMNER_DATA is not set: no real data")
    return open_volume(Path(folder) / "brains" / "person-1" / "aseg.mgz", kind="labels")


@pytest.mark.real
def test_real_labels_against_themselves(aseg: Volume) -> None:
    flipped = np.zeros(TABLE.ids.max() + 1, dtype=np.int32)
    flipped[TABLE.ids] = [TABLE.structure_id(label.structure) for label in TABLE.labels]
    for data in (aseg.data, flipped[aseg.data]):
        values = table_of(evaluate(Volume(data, aseg.grid, "labels"), aseg, table=TABLE, case="person-1"))
        assert values["mean", "structures"] == TWELVE
        assert (values["mean", "dice"], values["mean", "hd95"], values["mean", "asd"]) == (1, 0, 0)
    assert values["cerebral white matter", "volume"] == np.isin(aseg.data, (2, 41)).sum()


@pytest.mark.real
def test_real_labels_a_voxel_off(aseg: Volume) -> None:
    shifted = Volume(np.roll(aseg.data, 1, axis=1), aseg.grid, "labels")
    rows = evaluate(shifted, aseg, table=TABLE, case="person-1")
    values = table_of(rows)
    assert all(row["value"] == 1 for row in rows if row["metric"] == "hd95")
    assert 0.8 < values["mean", "dice"] < 0.95
    assert 0 < values["mean", "asd"] < 1
    # The least compact structures lose most.
    assert values["cerebral cortex", "dice"] < values["brain stem", "dice"]
    assert all(
        row["value"] == values[row["structure"], "reference_volume"] for row in rows if row["metric"] == "volume"
    )
