"""Real brains from scan to labels: the right place, the right side, and as accurate as was promised."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from limner.check import InputWarning
from limner.evaluation import evaluate
from limner.files import open_volume, save_volume
from limner.inference import Segmentation, segment_volume
from limner.methods.mixture import Mixture
from limner.methods.storage import MODELS, load_model
from limner.space import Grid, LabelTable, Volume, reoriented, resampled

pytestmark = pytest.mark.real
TABLE = LabelTable.freesurfer()


def coarse(path: Path, *, kind: str = "image") -> Volume:
    """A volume at 2 mm, where everything is eight times as quick."""
    volume = open_volume(path, kind=kind)
    return resampled(volume, volume.grid.spaced(2))


def mean_dice(found: Volume, expected: Volume) -> float:
    """The mean over the twelve structures."""
    rows = evaluate(found, expected, table=TABLE, case="scan", distances=False)
    scores = {row["metric"]: row["value"] for row in rows if row["structure"] == "mean"}
    assert scores["structures"] == 12
    return scores["dice"]


@pytest.fixture(scope="module")
def scan(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Volume:
    """A person at 2 mm, read from a file."""
    path = tmp_path_factory.mktemp("person") / "scan.mgz"
    save_volume(coarse(real_data / "brains/person-5/brainmask.mgz"), path)
    return open_volume(path)


@pytest.fixture(scope="module")
def brain(scan: Volume) -> Segmentation:
    """The person, segmented with the prior that ships."""
    return segment_volume(scan, posteriors=True)


def test_what_comes_out_lies_where_the_scan_lies(scan: Volume, brain: Segmentation, tmp_path: Path) -> None:
    assert scan.grid.orientation == "LIA"
    for volume in (brain.labels, brain.uncertainty, *brain.posteriors.values()):
        assert volume.grid.shape == scan.grid.shape
        np.testing.assert_array_equal(volume.grid.affine, scan.grid.affine)
    save_volume(brain.labels, tmp_path / "labels.mgz")
    stored = open_volume(tmp_path / "labels.mgz", kind="labels")
    changed = {key for key in scan.header if scan.header[key].tobytes() != stored.header[key].tobytes()}
    assert changed <= {"type"}
    assert set(np.unique(stored.data[scan.data == 0])) == {0}


def test_left_and_right_are_where_anatomy_has_them(brain: Segmentation) -> None:
    inside = brain.labels.grid.world(np.argwhere(brain.labels.data > 0))
    middle = inside[:, 0].mean()
    sides = {"Left": -1, "Right": 1}
    seen = 0
    for label in brain.table.labels:
        side, voxels = sides.get(label.name.split("-")[0]), np.argwhere(brain.labels.data == label.id)
        if side and len(voxels) > 20:
            across = brain.labels.grid.world(voxels)[:, 0] - middle
            told = across[np.abs(across) > 2]  # the middle is known to a voxel, 2 mm
            assert np.mean(np.sign(told) == side) > 0.9, label.name
            assert side * across.mean() > 0, label.name
            seen += 1
    assert seen > 20


def test_probabilities_and_uncertainty(brain: Segmentation) -> None:
    stacked = np.stack([volume.data for volume in brain.posteriors.values()])
    assert len(stacked) == 14
    np.testing.assert_allclose(stacked.sum(0), 1, atol=1e-5)
    assert 0 <= brain.uncertainty.data.min() < 1e-6
    assert 0.5 < brain.uncertainty.data.max() <= math.log(14)


def litres_of(found: Segmentation) -> dict[str, float]:
    """Volume of each structure in litres, left and right together."""
    litres: dict[str, float] = {}
    for row in found.volumes():
        litres[row["structure"]] = litres.get(row["structure"], 0) + row["volume_mm3"] / 1e6
    return litres


def test_volumes_are_those_of_a_person(brain: Segmentation) -> None:
    litres = litres_of(brain)
    assert 0.3 < litres["cerebral cortex"] < 0.7
    assert 0.3 < litres["cerebral white matter"] < 0.7
    assert 0.004 < litres["hippocampus"] < 0.012


def test_the_person_is_recognised(real_data: Path, brain: Segmentation) -> None:
    assert mean_dice(brain.labels, coarse(real_data / "brains/person-5/aseg.mgz", kind="labels")) > 0.77


def test_the_shape_model_that_ships_recognises_the_person_too(real_data: Path, scan: Volume) -> None:
    found = segment_volume(scan, method=load_model(MODELS / "anatomy"))
    assert mean_dice(found.labels, coarse(real_data / "brains/person-5/aseg.mgz", kind="labels")) > 0.77


@pytest.mark.slow
def test_a_head_as_it_comes_from_the_scanner(real_data: Path) -> None:
    folder = real_data / "brains/person-5"
    found = segment_volume(coarse(folder / "T1.mgz"))
    assert mean_dice(found.labels, coarse(folder / "aseg.mgz", kind="labels")) > 0.77
    inside, expected = found.mask.data > 0, coarse(folder / "brainmask.mgz").data > 0
    assert 2 * np.count_nonzero(inside & expected) / (np.count_nonzero(inside) + np.count_nonzero(expected)) > 0.9
    assert found.quality.verdict == "pass"
    assert 1.0e6 < found.volumes()[-1]["volume_mm3"] < 1.6e6


@pytest.mark.slow
def test_stored_orientation_does_not_matter(scan: Volume, brain: Segmentation) -> None:
    turned = segment_volume(reoriented(scan, "RAS"))
    assert turned.labels.grid.orientation == "RAS"
    np.testing.assert_array_equal(reoriented(turned.labels, "LIA").data, brain.labels.data)


@pytest.mark.slow
def test_an_array_that_forgot_its_affine(real_data: Path) -> None:
    with pytest.warns(InputWarning, match=r"vol.npz' has no affine; voxels of 1 mm along the axes right, front, up"):
        image = open_volume(real_data / "brains/person-7/vol.npz").data[::2, ::2, ::2]
    with pytest.warns(InputWarning, match=r"seg.npz' has no affine"):
        labels = open_volume(real_data / "brains/person-7/seg.npz", kind="labels").data[::2, ::2, ::2]
    grid = Grid(image.shape, np.eye(4))
    with pytest.warns(InputWarning, match="they were found to lead LIA by trying all ways"):
        found = segment_volume(Volume(np.ascontiguousarray(image), grid, "image"))
    assert found.orientation == "LIA"
    assert mean_dice(found.labels, Volume(np.ascontiguousarray(labels), grid, "labels")) > 0.77


@pytest.fixture(scope="module")
def patient(real_data: Path) -> dict[str, Volume]:
    """A patient's T1, T2, FLAIR and lesions at 2 mm."""
    folder = real_data / "flair_ms/patient-1"
    images = {name: coarse(folder / f"{name}.nii.gz") for name in ("t1", "t2", "flair")}
    return images | {"lesion": coarse(folder / "lesion.nii.gz", kind="labels")}


@pytest.mark.slow
def test_two_contrasts_give_a_brain(patient: dict[str, Volume]) -> None:
    found = segment_volume(patient["t1"], channels=[patient["t2"]])
    litres = litres_of(found)
    assert 0.3 < litres["cerebral cortex"] < 0.7
    assert 0.3 < litres["cerebral white matter"] < 0.7
    # In T1 white matter is brighter than cortex, in T2 darker.
    white, cortex = np.isin(found.labels.data, (2, 41)), np.isin(found.labels.data, (3, 42))
    assert patient["t1"].data[white].mean() > patient["t1"].data[cortex].mean()
    assert patient["t2"].data[white].mean() < patient["t2"].data[cortex].mean()


@pytest.mark.slow
def test_lesions_look_like_no_tissue(patient: dict[str, Volume]) -> None:
    found = segment_volume(patient["flair"], method=Mixture(outliers=0.01))
    strange, lesion = found.labels.data == 99, patient["lesion"].data > 0
    assert strange.any()
    brain = patient["flair"].data > 0
    assert strange[lesion].mean() > 5 * strange[brain & ~lesion].mean()


@pytest.mark.slow
def test_a_person_is_segmented_as_accurately_as_promised(real_data: Path) -> None:
    folder = real_data / "brains/person-4"
    found = segment_volume(open_volume(folder / "brainmask.mgz"))
    assert mean_dice(found.labels, open_volume(folder / "aseg.mgz", kind="labels")) >= 0.80
