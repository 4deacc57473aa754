"""What samples of a segmentation say together, and what a model that draws them leaves in a folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical

import tiny
from contracts.heads import SHAPE
from limner.check import InputError
from limner.data.scan import Preparation
from limner.files import open_volume
from limner.inference import Options, segment_scans
from limner.inference.samples import collected, entropy
from limner.inference.volumes import CUSTOM
from limner.methods.anatomy import Anatomy, AnatomyOptions
from limner.methods.method import Task
from limner.methods.storage import Model, save_model
from limner.priors.storage import load_prior


def drawn(count: int, *, seed: int = 0) -> Tensor:
    return (2 * torch.randn(count, 3, 4, 5, 6, generator=torch.Generator().manual_seed(seed))).softmax(1)


def test_uncertainty_is_the_entropy_of_the_mean_and_has_two_parts() -> None:
    samples = drawn(7)
    found = collected(iter(samples), identified=lambda classes: 10 * classes, voxel=2.0)
    assert found is not None
    mean = Categorical(samples.mean(0).movedim(0, -1)).entropy()
    own = torch.stack([Categorical(one.movedim(0, -1)).entropy() for one in samples]).mean(0)
    torch.testing.assert_close(found.uncertainty, mean)
    torch.testing.assert_close(found.shape, mean - own)
    assert (found.shape > 0).all()
    for ids, one in zip(found.labels, samples, strict=True):
        np.testing.assert_array_equal(ids, 10 * one.argmax(0))


def test_samples_that_agree_leave_nothing_open_but_the_voxels_own_doubt() -> None:
    one = drawn(1)[0]
    found = collected([one, one], identified=lambda classes: classes, voxel=2.0)
    assert found is not None
    torch.testing.assert_close(found.uncertainty, entropy(one))
    assert float(found.shape.max()) < 1e-6
    low, high = found.intervals[1]
    volume = 2.0 * float((one.argmax(0) == 1).sum())
    assert (high + low) / 2 == pytest.approx(volume)
    assert (high - low) / 2 == pytest.approx(1.96 * CUSTOM * volume)


def test_intervals_are_as_wide_as_the_samples_differ() -> None:
    samples = drawn(50)
    found = collected(iter(samples), identified=lambda classes: classes, voxel=1.0)
    assert found is not None
    volumes = np.array([float((one.argmax(0) == 2).sum()) for one in samples])
    low, high = found.intervals[2]
    assert high - low == pytest.approx(2 * 1.96 * np.hypot(volumes.std(ddof=1), CUSTOM * volumes.mean()))


def test_no_samples_say_nothing() -> None:
    assert collected(iter(()), identified=lambda classes: classes, voxel=1.0) is None


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a scan and two models: one draws samples, of a decoder that says something at random."""
    folder = tiny.furnish(tmp_path_factory.mktemp("home"))
    atlas = load_prior(folder / "prior")
    options = AnatomyOptions(shape=SHAPE | {"spacing": 3.0})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        method = Anatomy(Task(1, len(atlas.table.structures)), options)
        torch.nn.init.normal_(method.shape.decoder.head.weight, std=10.0)
    save_model(Model(method.eval(), "anatomy", atlas.table, Preparation(), atlas), folder / "anatomy")
    return folder


def test_samples_are_written_beside_the_labels(home: Path) -> None:
    (case,) = segment_scans([home / "scan.nii.gz"], home / "out", model=home / "anatomy", options=Options(samples=3))
    assert case.error is None
    names = {path.name for path in (home / "out" / "scan_samples").iterdir()}
    assert names == {"1.nii.gz", "2.nii.gz", "3.nii.gz", "shape.nii.gz"}
    whole, shape = (
        open_volume(path).data
        for path in (home / "out" / "scan_uncertainty.nii.gz", home / "out/scan_samples/shape.nii.gz")
    )
    assert (shape <= whole + 1e-5).all()
    assert shape.max() > 0
    first, second = (open_volume(home / f"out/scan_samples/{number}.nii.gz", kind="labels") for number in (1, 2))
    assert first.grid.matches(tiny.GRID)
    assert 0 < (first.data != second.data).mean() < 0.5


def test_a_shape_model_goes_with_its_own_prior_alone(home: Path) -> None:
    with pytest.raises(InputError, match="knows shapes where its own prior has them"):
        segment_scans([home / "scan.nii.gz"], home / "no", model=home / "anatomy", prior=home / "prior")


def test_a_method_that_draws_nothing_is_refused(home: Path) -> None:
    for model, name in ((None, "mixture"),):
        with pytest.raises(InputError, match=f"method '{name}' draws no samples"):
            segment_scans([home / "scan.nii.gz"], home / "no", model=model, options=Options(samples=3))
    with pytest.raises(InputError, match="is one file but --samples writes several"):
        segment_scans([home / "scan.nii.gz"], home / "one.nii.gz", model=home / "anatomy", options=Options(samples=3))
