from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr

from limner.check import InputError, InputWarning
from limner.files import save_volume
from limner.files.affinities import StoredAffinities, open_affinities, save_affinities
from limner.files.nanometres import placed
from limner.space import Affinities, Box, Grid, Volume

OFFSETS = ((-1, 0, 0), (0, -1, 0), (0, 0, -1), (0, -9, 0))
DATA = np.random.default_rng(0).random((4, 2, 10, 3), dtype=np.float32)
GRID = Grid((2, 10, 3), placed([40, 4, 4], [80, 0, 0]))


@pytest.mark.parametrize("ending", [".zarr", ".hdf", ".h5"])
@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_affinities_come_back_with_their_meaning(tmp_path: Path, ending: str, dtype: type) -> None:
    data = (DATA * (255 if dtype == np.uint8 else 1)).astype(dtype)
    save_affinities(Affinities(data, OFFSETS, GRID), tmp_path / f"a{ending}")
    found = open_affinities(tmp_path / f"a{ending}")
    np.testing.assert_array_equal(found.data, data)
    assert (found.data.dtype, found.offsets) == (dtype, OFFSETS)
    np.testing.assert_array_equal(found.grid.affine, GRID.affine)
    assert [path.name for path in tmp_path.iterdir()] == [f"a{ending}"]


def test_boundary_probabilities_come_as_affinities(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "b.hdf", "w") as file:
        file["boundaries"] = np.float64(1 - DATA)
        file["boundaries"].attrs.update({"offsets": OFFSETS, "sign": "repulsive", "resolution": [40, 4, 4]})
    found = open_affinities(tmp_path / "b.hdf")
    np.testing.assert_allclose(found.data, DATA, atol=1e-6)
    assert found.data.dtype == np.float32


def test_offsets_are_never_guessed(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.hdf", "w") as file:
        file["volumes/affinities"] = DATA[:3]
    zarr.save_array(tmp_path / "a.zarr", DATA[:3])
    for name in ("a.hdf", "a.zarr"):
        with pytest.raises(InputError, match=rf"{name}' has no attribute 'offsets'; .* they are never guessed; write"):
            open_affinities(tmp_path / name)


def test_attributes_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "a.zarr", data=DATA, attributes={"offsets": OFFSETS[:3]})
    with pytest.raises(InputError, match=r"have shape \(4, 2, 10, 3\) and 3 offsets of \[3\] steps"):
        open_affinities(tmp_path / "a.zarr")
    zarr.create_array(tmp_path / "c.zarr", data=DATA, attributes={"offsets": OFFSETS})
    with pytest.warns(InputWarning, match=r"c.zarr' has no affine"):
        assert open_affinities(tmp_path / "c.zarr").grid.matches(Grid((2, 10, 3), np.eye(4)))
    zarr.create_array(tmp_path / "b.zarr", data=DATA, attributes={"offsets": OFFSETS, "sign": "positive"})
    with pytest.raises(InputError, match=r"has the sign 'positive'; expected 'attractive' .* or 'repulsive'"):
        open_affinities(tmp_path / "b.zarr")


def test_formats_without_a_place_for_channels(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a.tif' cannot hold affinities; expected a name that ends in .zarr, .hdf"):
        save_affinities(Affinities(DATA, OFFSETS, GRID), tmp_path / "a.tif")
    save_volume(Volume(DATA[0], GRID, "image"), tmp_path / "raw.hdf")
    with pytest.raises(InputError, match="has no attribute 'offsets'"):
        open_affinities(tmp_path / "raw.hdf")


@pytest.mark.parametrize("ending", [".zarr", ".hdf"])
@pytest.mark.parametrize("sign", ["attractive", "repulsive"])
def test_a_part_is_that_of_the_whole(tmp_path: Path, ending: str, sign: str) -> None:
    path = tmp_path / f"a{ending}"
    save_affinities(Affinities(DATA, OFFSETS, GRID), path)
    if ending == ".zarr":
        zarr.open_array(path).update_attributes({"sign": sign})
    else:
        with h5py.File(path, "r+") as file:
            file["volumes/affinities"].attrs["sign"] = sign
    stored = (StoredAffinities.opened if ending == ".zarr" else StoredAffinities.in_file)(path)
    assert not isinstance(stored.array, np.ndarray)
    found = stored.read(Box((0, 2, 1), (2, 9, 3)), [3, 0])
    np.testing.assert_array_equal(found, open_affinities(path).data[[3, 0], :, 2:9, 1:3])
    np.testing.assert_array_equal(stored.grid.affine, GRID.affine)
