"""Scans found in a prior's world: heads and one person, however they were stored, placed, and whatever they show."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import people
import phantoms
from limner.files import open_volume
from limner.methods import placement
from limner.methods.placement import place_scan, told_sides
from limner.priors.atlas import Atlas, Placement
from limner.priors.averaging import build_atlas
from limner.priors.deformation import Smooth, Warps
from limner.space import Array, Box, Grid, Volume


@dataclass(frozen=True)
class Scan:
    """An image (C, *S), its brain (*S), and where they lie."""

    image: Tensor
    mask: Tensor
    grid: Grid

    def placed(self, atlas: Atlas, *, seed: int = 0, oriented: bool = True) -> Placement:
        rng = np.random.default_rng(seed)
        return place_scan(self.image, self.mask, grid=self.grid, atlas=atlas, rng=rng, oriented=oriented)

    def moved(self, transform: Array) -> Scan:
        return replace(self, grid=self.grid.moved(transform))

    def stored(self, order: tuple[int, ...], flips: tuple[int, ...]) -> Scan:
        """The same scan with its axes in another order and some of them backwards, and its place forgotten."""
        image = self.image.permute(0, *(axis + 1 for axis in order)).flip([axis + 1 for axis in flips])
        mask = self.mask.permute(*order).flip(flips)
        affine = np.diag([*self.grid.voxel_sizes[list(order)], 1.0])
        return Scan(image.contiguous(), mask.contiguous(), Grid(tuple(mask.shape), affine))


def to_prior(scan: Scan, found: Placement) -> Grid:
    """The scan's voxels where the placement takes them."""
    return scan.grid.moved(found.transform)


@pytest.fixture(autouse=True, scope="module")
def _coarse() -> Iterator[None]:
    """Look at fewer points and coarser maps than in earnest: seconds less, and right to a millimetre or two."""
    with phantoms.hurried(inside=10_000):
        yield


@pytest.fixture(scope="module")
def atlas() -> Atlas:
    return phantoms.atlas(phantoms.grid(2.0))


def head(transform: Array, *, spacing: float = 2.5, inverted: bool = False) -> Scan:
    """A scan of the head that lies where `transform` takes it."""
    volume = phantoms.labels(phantoms.grid(spacing, half=(60, 60, 60)), transform)
    image, mask = torch.from_numpy(phantoms.image(volume))[None], torch.from_numpy(volume.data > 0)
    return Scan(130 - image if inverted else image, mask, volume.grid)


MOVES = {
    "moved": phantoms.turned((0, 0, 0), (9, -7, 5)),
    "turned": phantoms.turned((12, -9, 10), (5, 3, -6)),
    "larger": phantoms.turned((4, -3, 5), (2, 2, 2), scale=1.12),
    "narrow": phantoms.turned((-4, 5, 3), (0, -4, 4)) @ np.diag([0.92, 1.06, 1.0, 1.0]),
}


@pytest.mark.parametrize("transform", MOVES.values(), ids=MOVES.keys())
def test_a_head_is_found_where_it_lies(atlas: Atlas, transform: Array) -> None:
    scan = head(transform)
    assert phantoms.farthest(scan.placed(atlas).transform @ transform, np.eye(4), phantoms.grid()) < 2


def test_the_contrast_does_not_matter(atlas: Atlas) -> None:
    plain, inverted = (head(MOVES["turned"], inverted=inverted).placed(atlas) for inverted in (False, True))
    assert phantoms.farthest(plain.transform, inverted.transform, phantoms.grid()) < 0.5


def test_the_unit_does_not_matter(atlas: Atlas) -> None:
    scan = head(MOVES["turned"])
    plain, scaled = scan.placed(atlas), replace(scan, image=1e4 * scan.image + 50).placed(atlas)
    assert phantoms.farthest(plain.transform, scaled.transform, phantoms.grid()) < 0.5
    assert plain.score == pytest.approx(scaled.score, abs=0.01)


def test_the_same_seed_gives_the_same_placement(atlas: Atlas) -> None:
    scan = head(MOVES["moved"])
    assert scan.mask.sum() > placement.INSIDE
    first, second, other = scan.placed(atlas), scan.placed(atlas), scan.placed(atlas, seed=1)
    np.testing.assert_array_equal(first.transform, second.transform)
    assert first.score == second.score
    assert 0 < phantoms.farthest(first.transform, other.transform, phantoms.grid()) < 1


@pytest.mark.parametrize("copied", [True, False])
def test_two_channels_are_aligned_together(atlas: Atlas, copied: bool) -> None:
    """The second is the first one's negative, or another image of the same kind, where bright is dark."""
    scan = head(MOVES["turned"])
    other = phantoms.image(phantoms.labels(scan.grid, MOVES["turned"]), noise=6, seed=1)
    second = scan.image if copied else torch.from_numpy(other)[None]
    both = replace(scan, image=torch.cat([scan.image, 5 - 3 * second]))
    assert phantoms.farthest(both.placed(atlas).transform @ MOVES["turned"], np.eye(4), phantoms.grid()) < 2


def test_a_scan_that_is_all_brain_is_placed(atlas: Atlas) -> None:
    """Without a voxel outside the mask there is nothing to say where the brain ends."""
    scan = head(np.eye(4))
    box = Box.around(scan.mask.numpy()).grown(-5)
    cropped = (slice(None), *box.slices)
    block = Scan(scan.image[cropped], torch.ones(box.shape, dtype=torch.bool), scan.grid.cropped(box))
    assert np.isfinite(block.placed(atlas).transform).all()


def test_a_mirror_image_is_told_from_the_scan() -> None:
    """The left ball of this atlas is larger than the right one; its mirror image says the opposite, as surely."""
    on = phantoms.grid(2.0)
    lopsided = phantoms.labels(on).data
    ball = ((on.world(np.moveaxis(np.indices(on.shape), 0, -1)) - (-20, -24, 2)) ** 2).sum(-1) < 9**2
    truth = Volume(np.where(ball, 4, lopsided), on, "labels")
    lopsided_atlas = build_atlas({"head": lambda: truth}, phantoms.table(), spacing=2, blur=1, bends=False)
    image, mask = torch.from_numpy(phantoms.image(truth))[None], torch.from_numpy(truth.data > 0)
    sides = []
    for scan in (Scan(image, mask, on), Scan(image.flip(1), mask.flip(0), on)):
        given = {"grid": scan.grid, "atlas": lopsided_atlas, "placement": scan.placed(lopsided_atlas)}
        sides.append(told_sides(scan.image, scan.mask, rng=np.random.default_rng(0), **given))
    assert sides[0] > 0.005
    assert sides[1] < -0.005


@pytest.mark.parametrize("seed", [0, 1])
def test_an_atlas_that_bends_explains_a_head_of_another_shape(atlas: Atlas, seed: int) -> None:
    truth = phantoms.bent(2.5, seed=seed)
    image, mask = torch.from_numpy(phantoms.image(truth))[None], torch.from_numpy(truth.data > 0)
    scan, found, scores = Scan(image, mask, truth.grid), {}, {}
    for bends in (False, True):
        known = replace(atlas, warps=Warps.over(atlas.grid, (Smooth(14.0, 2.5),)) if bends else None)
        found[bends] = scan.placed(known)
        placed = found[bends].placed(known, grid=truth.grid, mask=mask)
        ids = np.where(mask, placed.identified(placed.log_probability().argmax(0).numpy()), 0)
        scores[bends] = np.mean([phantoms.dice(ids == one, truth.data == one) for one in phantoms.IDS])
    assert found[False].warp is None
    np.testing.assert_array_equal(found[True].transform, found[False].transform)
    assert found[True].score > found[False].score
    assert scores[True] > scores[False] + 0.3 * (1 - scores[False])
    assert float(found[True].warp.jacobian().min()) > 0


def test_the_gain_of_the_coils_is_found(atlas: Atlas) -> None:
    """A head brighter on one side by half: the gain is found, and the intensities without it are the head's."""
    transform = MOVES["turned"]
    scan = head(transform)
    points = scan.grid.world(np.argwhere(scan.mask.numpy()))
    gain = torch.from_numpy(0.25 * np.tanh(points[:, 1] / 30) - 0.1 * (points[:, 2] / 40) ** 2).float()
    uneven = scan.image.clone()
    uneven[:, scan.mask] *= gain.exp()
    found = replace(scan, image=uneven).placed(atlas)
    assert phantoms.farthest(found.transform @ transform, np.eye(4), phantoms.grid()) < 2
    assert float((found.bias.at(points)[0] - gain).std()) < 0.25 * float(gain.std())
    torch.testing.assert_close(
        found.evened(uneven, scan.grid)[:, scan.mask], uneven[:, scan.mask] / found.bias.at(points).exp()
    )


def test_what_may_be_negative_has_no_gain(atlas: Atlas) -> None:
    scan = head(np.eye(4))
    shifted = replace(scan, image=scan.image - 80)
    found = shifted.placed(atlas)
    assert found.bias is None
    assert found.evened(shifted.image, scan.grid) is shifted.image


@pytest.fixture(scope="module")
def person(real_data: Path) -> Scan:
    """Every third voxel of a stripped brain."""
    volume = open_volume(real_data / "brains/person-5/brainmask.mgz")
    box = Box.around(volume.data > 0).grown(9).clipped(volume.grid.shape)
    data = np.ascontiguousarray(volume.data[box.slices][::3, ::3, ::3])
    grid = Grid(data.shape, volume.grid.cropped(box).affine @ np.diag([3, 3, 3, 1]))
    return Scan(torch.from_numpy(data)[None].float(), torch.from_numpy(data > 0), grid)


@pytest.fixture(scope="module")
def settled(person: Scan, real_data: Path) -> Placement:
    """The person as stored, placed."""
    return person.placed(people.atlas(real_data))


@pytest.mark.real
def test_a_person_that_was_moved_is_moved_back(person: Scan, settled: Placement, real_data: Path) -> None:
    move = phantoms.turned((9, -7, 12), (15, -10, 8))
    found = person.moved(move).placed(people.atlas(real_data))
    assert phantoms.farthest(found.transform @ move, settled.transform, person.grid) < 1


@pytest.mark.real
def test_the_contrast_of_a_person_does_not_matter(person: Scan, settled: Placement, real_data: Path) -> None:
    inverted = torch.where(person.mask, person.image.max() - person.image, 0.0)
    found = replace(person, image=inverted).placed(people.atlas(real_data))
    assert phantoms.farthest(found.transform, settled.transform, person.grid) < 2


@pytest.mark.real
def test_a_person_whose_orientation_was_lost_is_found_up_to_left_and_right(
    person: Scan, settled: Placement, real_data: Path
) -> None:
    order, flips = (2, 0, 1), (0, 2)
    lost = person.stored(order, flips)
    found = to_prior(lost, lost.placed(people.atlas(real_data), oriented=False))
    # Where each voxel of the lost scan lies in the scan as it was.
    back = np.eye(4)
    back[:3, :3] = 0
    for axis, source in enumerate(order):
        back[source, axis] = -1 if axis in flips else 1
        back[source, 3] = lost.grid.shape[axis] - 1 if axis in flips else 0
    expected = Grid(lost.grid.shape, to_prior(person, settled).affine @ back)
    # A mirrored brain is not quite itself; an axis mistaken for another would be off by ten times as much.
    np.testing.assert_allclose(found.corners()[:, 1:], expected.corners()[:, 1:], atol=8)
    ends = found.corners()[:, 0], expected.corners()[:, 0]
    assert min(np.ptp(ends[0] - ends[1]), np.ptp(ends[0] + ends[1])) < 12
