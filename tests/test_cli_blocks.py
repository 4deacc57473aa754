"""`limner decode`, through its own process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr

from limner.files import open_volume
from limner.files.affinities import save_affinities
from limner.instances import components, mutex_watershed, nearest
from limner.instances.decoding import Decoder, decoded
from limner.space import Affinities, Grid
from tiny import limner


def test_decode(tmp_path: Path) -> None:
    data = (np.random.default_rng(0).random((3, 12, 12, 12)) ** 0.7 * 255).astype(np.uint8)
    grid = Grid((12, 12, 12), np.diag([4e-5, 8e-6, 8e-6, 1]))
    save_affinities(Affinities(data, nearest(3), grid), tmp_path / "affinities.zarr")
    asked = ("decode", tmp_path / "affinities.zarr", "-o", tmp_path / "labels.zarr", "--threshold", 0.6)
    done = limner(*asked, "--block", 7, at=tmp_path)
    expected = components(data, nearest(3), threshold=0.6)
    assert (done.returncode, done.stdout) == (0, f"{expected.max()} segments: {tmp_path / 'labels.zarr'}\n"), (
        done.stderr
    )
    np.testing.assert_array_equal(open_volume(tmp_path / "labels.zarr", kind="instances").data, expected)
    again = limner(*asked, "--block", 6, at=tmp_path)
    assert (again.returncode, again.stdout) == (0, done.stdout)
    other = limner(*asked[:-1], 0.5, at=tmp_path)
    assert other.returncode == 2
    assert "holds results of another run (threshold 0.6, now 0.5)" in other.stderr
    missing = limner("decode", tmp_path / "none.zarr", "-o", tmp_path / "labels.zarr", at=tmp_path)
    assert missing.returncode == 2
    assert "Traceback" not in missing.stderr


DECODERS = {
    "quantile": ("--threshold", 0.85, "--quantile", 0.3, "--membrane", 0.6, "--separation", 2, "--block", 7),
    "mutex": ("--strides", 1, 2, 2, "--smallest", 3),
}


@pytest.mark.parametrize("kind", DECODERS)
def test_other_decoders(tmp_path: Path, kind: str) -> None:
    power = np.array([0.2] * 3 + [2.0] * 3)[:, None, None, None]
    data = (np.random.default_rng(0).random((6, 12, 12, 12)) ** power * 255).astype(np.uint8)
    offsets = (*nearest(3), (-3, 0, 0), (0, -3, 0), (0, 0, -3))
    save_affinities(Affinities(data, offsets, Grid((12, 12, 12), np.diag([1e-5] * 3 + [1]))), tmp_path / "near.zarr")
    done = limner("decode", "near.zarr", "-o", "labels.zarr", "--decoder", kind, *DECODERS[kind], at=tmp_path)
    if kind == "mutex":
        expected = mutex_watershed(data, offsets, strides=(1, 2, 2), smallest=3)  # what is smaller is not filled
    else:
        by = Decoder(kind="quantile", threshold=0.85, quantile=0.3, membrane=0.6, separation=2)
        expected = decoded(data, offsets, by=by)
    assert (done.returncode, done.stdout) == (0, f"{expected.max()} segments: labels.zarr\n"), done.stderr
    np.testing.assert_array_equal(open_volume(tmp_path / "labels.zarr", kind="instances").data, expected)
    assert expected.max() > 9


@pytest.mark.parametrize("sign", ["attractive", "repulsive"])
def test_the_wrong_sign_is_said(tmp_path: Path, sign: str) -> None:
    belong = np.full((3, 6, 6, 6), 0.95, np.float32)
    values = 1 - belong if sign == "attractive" else belong
    save_affinities(
        Affinities(values, nearest(3), Grid((6, 6, 6), np.diag([1e-5, 1e-5, 1e-5, 1]))), tmp_path / "near.zarr"
    )
    zarr.open_array(tmp_path / "near.zarr").update_attributes({"sign": sign})
    done = limner("decode", "near.zarr", "-o", "labels.zarr", at=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "half of the affinities of neighbouring voxels are below 0.05" in done.stderr
    assert "write the attribute sign = 'repulsive'; if that is there, take it away" in done.stderr
