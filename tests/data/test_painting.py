"""A label map is painted as a stripped scan would show it."""

from __future__ import annotations

import numpy as np
import pytest

import phantoms
from limner.check import InputError
from limner.data.painting import NEAR, painted
from limner.space import Volume


def test_every_tissue_has_its_own_intensity_and_nothing_surrounds_the_brain() -> None:
    labels, table = phantoms.labels(phantoms.grid(2.0), around=True), phantoms.table([*phantoms.IDS, 165, 258])
    image = painted(labels, table)
    assert image.kind == "image"
    assert image.grid == labels.grid
    rows = table.rows(labels.data)
    assert (image.data[table.structure_of[rows] == 0] == 0).all()
    tissues = table.tissue_of[rows]
    brain = [tissue for tissue in range(1, len(table.tissues)) if (image.data[tissues == tissue] > 0).any()]
    means = [image.data[(tissues == tissue) & (image.data > 0)].mean() for tissue in brain]
    np.testing.assert_allclose(np.diff(means), np.diff(brain), atol=0.1)


def test_the_rest_far_from_any_structure_is_left_out() -> None:
    """As the fluid about the spine, which no stripped scan shows."""
    labels, table = phantoms.labels(phantoms.grid(2.0)), phantoms.table()
    data = labels.data.copy()
    data[:, :, :2] = 24
    image = painted(Volume(data, labels.grid, "labels"), table)
    assert not image.data[:3, :3, :2].any()
    fluid = (labels.data == 24) & (image.data > 0)
    assert fluid.any()
    structures = np.argwhere((labels.data > 0) & (labels.data != 24))
    voxel = np.argwhere(fluid)[0]
    assert 2 * np.linalg.norm(structures - voxel, axis=1).min() <= NEAR


def test_the_same_map_is_painted_alike() -> None:
    labels, table = phantoms.labels(phantoms.grid(4.0)), phantoms.table()
    np.testing.assert_array_equal(painted(labels, table).data, painted(labels, table).data)


def test_unknown_ids_are_refused() -> None:
    labels = phantoms.labels(phantoms.grid(4.0))
    with pytest.raises(InputError, match="map-3.*99"):
        painted(
            Volume(np.where(labels.data == 24, 99, labels.data), labels.grid, "labels"), phantoms.table(), name="map-3"
        )
