from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from limner.data.batch import IGNORE
from limner.data.defects import Defects, damaged
from limner.data.electron import Microscopy, varied
from limner.instances import nearest
from limner.methods.affinity import edges_of

SHAPES = {2: (24, 24), 3: (12, 24, 24)}
ALL = Microscopy(
    flips=True,
    exchanged=((0, 1),),
    elastic=1.0,
    brightness=0.2,
    contrast=0.2,
    noise=0.2,
    defects=Defects(blurred=0.3, unfocused=0.3, darkened=0.3, noisy=0.3, missing=0.1, misaligned=0.2),
)


@pytest.fixture(autouse=True)
def _drawn() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def scans(dimensions: int, *, batch: int = 2) -> tuple[Tensor, Tensor]:
    """Images that are their labels, blocks of eight voxels a side."""
    places = torch.meshgrid(*[torch.arange(size) // 8 for size in SHAPES[dimensions]], indexing="ij")
    labels = sum(place * 3**axis for axis, place in enumerate(places)) + 1
    labels = labels.expand(batch, *SHAPES[dimensions]).clone()
    return labels[:, None].float(), labels


@pytest.mark.parametrize("dimensions", [2, 3])
def test_nothing_is_changed_unless_it_is_asked_for(dimensions: int) -> None:
    image, labels = scans(dimensions)
    same, ids = varied(image, labels, by=Microscopy())
    assert torch.equal(same, image)
    assert torch.equal(ids, labels)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_everything_at_once_keeps_shapes_and_draws_anew(dimensions: int) -> None:
    image, labels = scans(dimensions)
    (one, ids), (other, _) = (varied(image, labels, by=ALL) for _ in range(2))
    assert one.shape == image.shape
    assert ids.shape == labels.shape
    assert torch.isfinite(one).all()
    assert not torch.equal(one, other)
    assert set(ids.unique().tolist()) <= {IGNORE, *labels.unique().tolist()}
    torch.manual_seed(0)
    assert torch.equal(varied(image, labels, by=ALL)[0], one)


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize(
    "by", [Microscopy(flips=True), Microscopy(exchanged=((0, 1),)), Microscopy(flips=True, elastic=2.0)]
)
def test_labels_go_where_their_image_goes(dimensions: int, by: Microscopy) -> None:
    if by.exchanged:
        by = by.model_copy(update={"exchanged": ((dimensions - 2, dimensions - 1),)})  # which are of one size
    image, labels = scans(dimensions, batch=8)
    seen, ids = varied(image, labels, by=by)
    assert not torch.equal(ids, labels)
    inside = edges_of(ids, nearest(dimensions))[0].all(1)[:, 1:-1, 1:-1]  # interpolated borders lie between two ids
    near = (seen[:, 0] - ids).abs()[:, 1:-1, 1:-1] < (2.0 if by.elastic else 1e-6)
    assert near[inside].float().mean() > 0.9


def test_axes_of_different_sizes_are_not_exchanged() -> None:
    image, labels = scans(3)
    assert varied(image, labels, by=Microscopy(exchanged=((0, 1),)))[0].shape == image.shape


@pytest.mark.parametrize("name", ["blurred", "unfocused", "darkened", "noisy", "missing"])
def test_about_the_share_of_sections_has_a_defect_and_the_others_are_as_they_were(name: str) -> None:
    image = torch.randn(20, 1, 40, 16, 16)
    found, labels = damaged(image, torch.zeros(20, 40, 16, 16, dtype=torch.int64), by=Defects(**{name: 0.2}))
    changed = (found != image).flatten(3).any(3)[:, 0]
    assert 0.12 < changed.float().mean() < 0.28
    assert not labels.any()


def test_defects_look_like_what_they_are_called() -> None:
    image = torch.randn(4, 1, 10, 32, 32)
    labels = torch.zeros(4, 10, 32, 32, dtype=torch.int64)
    found = {
        name: damaged(image, labels, by=Defects(**{name: 1.0}))[0]
        for name in Defects.model_fields
        if name != "farthest"
    }
    assert (found["unfocused"].std((3, 4)) < 0.5 * image.std((3, 4))).float().mean() > 0.5
    assert found["blurred"].std() < 0.8 * image.std()
    assert found["darkened"].mean() < -0.3
    assert found["noisy"].std() > 1.03 * image.std()
    assert found["missing"].std((3, 4)).max() < 1e-5


def test_a_misaligned_section_takes_its_labels_along() -> None:
    image, labels = scans(3, batch=6)
    seen, ids = damaged(image, labels, by=Defects(misaligned=0.3, farthest=3))
    known = ids != IGNORE
    assert not known.all()
    assert known.float().mean() > 0.5
    assert torch.equal(seen[:, 0][known], ids[known].float())
    moved = (ids != labels).flatten(2).any(2)
    assert 0 < moved.float().mean() < 1
