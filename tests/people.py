"""What tests marked `real` make of the data folder, once in a session."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

from limner.files import open_volume
from limner.priors.atlas import Atlas
from limner.priors.averaging import build_atlas
from limner.space import LabelTable, Volume

MAPS = ("map-01", "map-05", "map-09")
SPACING = 3.0


def label_maps(folder: Path) -> dict[str, Callable[[], Volume]]:
    """Three label maps, opened when asked for."""
    paths = {name: folder / "label_maps" / f"{name}.nii.gz" for name in MAPS}
    return {name: functools.partial(open_volume, path, kind="labels") for name, path in paths.items()}


@functools.cache
def atlas(folder: Path) -> Atlas:
    """A coarse prior made of three people, which does not bend."""
    return build_atlas(label_maps(folder), LabelTable.freesurfer(), spacing=SPACING, bends=False)
