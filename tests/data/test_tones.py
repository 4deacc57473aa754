"""Intensities become those of another volume, and what lies beyond the curve goes on straight."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from limner.check import InputError
from limner.config import checked
from limner.data.tones import SHARES, Tones, looks, matching, quantiles

RNG = np.random.default_rng(0)


def test_a_matched_image_has_the_quantiles_of_the_look() -> None:
    source, image = RNG.normal(size=(40, 40, 40)), RNG.gamma(2, size=(30, 50, 40)).astype(np.float32)
    tones = matching(image, looks([source], np.full(3, 1e-5)))
    assert tones
    found = quantiles([tones(torch.from_numpy(image)).numpy()])
    np.testing.assert_allclose(found, np.quantile(source, SHARES), atol=0.02)


def test_quantiles_of_whole_numbers_have_no_steps() -> None:
    smooth = 10 * RNG.normal(size=(50, 50, 50))
    np.testing.assert_allclose(quantiles([smooth.round()]), np.quantile(smooth, SHARES), atol=0.15)


def test_what_differs_as_pieces_of_a_volume_do_is_left_alone() -> None:
    image = RNG.normal(size=(40, 40))
    assert matching(image, looks([1.05 * image + 0.1], np.full(2, 1e-5))) is None
    assert matching(image, looks([1.05 * image + 0.4], np.full(2, 1e-5))) is not None


def test_the_curve_is_numpys_and_goes_on_beyond_its_ends() -> None:
    tones = Tones(given=(-1.0, 0.0, 2.0), wanted=(0.0, 3.0, 4.0))
    inside, beyond = np.linspace(-1, 2, 31), torch.tensor([-2.5, 5.0])
    np.testing.assert_allclose(
        tones(torch.from_numpy(inside)), np.interp(inside, tones.given, tones.wanted), rtol=0, atol=1e-5
    )
    np.testing.assert_allclose(tones(beyond), [0 - 1.5 * 4 / 3, 4 + 3 * 4 / 3], rtol=1e-5)


def test_values_that_many_voxels_share_become_one() -> None:
    image = np.repeat([0.0, 1.0], [900, 100])
    tones = matching(image, looks([np.linspace(-1, 1, 1000)], np.full(2, 1e-5)))
    assert tones
    assert tones.given[0] == 0
    assert tones.given[-1] == 1
    assert np.all(np.diff(tones.given) > 0)


def test_a_look_has_voxels_in_nm() -> None:
    assert looks([np.arange(9.0)], np.array([4e-5, 4e-6, 4e-6])).voxels == (40.0, 4.0, 4.0)


def test_what_is_no_curve_is_refused() -> None:
    with pytest.raises(InputError, match="3 intensities given and 2 wanted; expected as many of both"):
        checked({"given": [0, 1, 2], "wanted": [0, 1]}, Tones, source="recipe")
