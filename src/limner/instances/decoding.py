"""Which decoder turns affinities into segments, and with which settings: what a model keeps, and `limner tune` chooses.

Source: each decoder names its own.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from limner.config import Settings
from limner.instances.agglomeration import agglomerated
from limner.instances.climbing import Climb, fragments
from limner.instances.connected import components, filled, sized
from limner.instances.mutex import mutex_watershed
from limner.space import Array, Offsets

#: The settings that each kind of decoder follows.
USED = {
    "components": ("threshold", "smallest"),
    "mean": ("threshold", "membrane", "separation", "sections", "smallest"),
    "quantile": ("threshold", "quantile", "membrane", "separation", "sections", "smallest"),
    "mutex": ("strides", "smallest"),
}

Share = Annotated[float, Field(ge=0, le=1)]


class Decoder(Settings):
    """How affinities become segments.

    Args:
        kind: "mean" or "quantile", agglomeration of a watershed's fragments by either; "mutex", the mutex watershed;
            "components", what edges above the threshold connect.
        threshold: of agglomeration or components.
        quantile: of the affinities between two fragments, for agglomeration by it.
        membrane: voxels with an edge that is no higher grow no seeds of fragments.
        separation: distance between seeds, voxels.
        sections: whether fragments stay in their section, as suits thick ones.
        strides: of the mutex watershed, along each axis; all 1 unless given.
        smallest: voxels of the smallest segment that stays; what is smaller is filled by its neighbours.
    """

    kind: Literal["mean", "quantile", "mutex", "components"] = "mean"
    threshold: Share = 0.5
    quantile: Share = 0.5
    membrane: Share = 0.5
    separation: Annotated[float, Field(ge=1)] = 5.0
    sections: bool = False
    strides: tuple[Annotated[int, Field(ge=1)], ...] = ()
    smallest: Annotated[int, Field(ge=1)] = 1

    @property
    def used(self) -> dict[str, Any]:
        """The settings that this kind follows, by name."""
        return {name: getattr(self, name) for name in USED[self.kind]}

    @property
    def climb(self) -> Climb:
        """How fragments are found."""
        return Climb(self.membrane, self.separation, sections=self.sections)


def decoded(values: Array, offsets: Offsets, *, by: Decoder, threads: int | None = None) -> NDArray[np.int32]:
    """Return the segments of affinities, (*S) labels from 1 on; 0 where there is none.

    Args:
        values: (C, *S) affinities, float32 from 0 to 1 or uint8 from 0 to 255.
        offsets: (C, D) voxels.
        by: which decoder.
        threads: at most; None: one per core. The labels are the same for any number.

    Raises:
        InputError: for affinities that cannot be decoded.
    """
    if by.kind == "components":
        return components(values, offsets, threshold=by.threshold, smallest=by.smallest, fill=True, threads=threads)
    if by.kind == "mutex":
        found = mutex_watershed(values, offsets, strides=by.strides or None, threads=threads)
    else:
        pieces = oversegmented(values, offsets, by=by, threads=threads)
        quantile = by.quantile if by.kind == "quantile" else None
        found = agglomerated(
            values, offsets, fragments=pieces, threshold=by.threshold, quantile=quantile, threads=threads
        )
    return without_small(found, values, offsets=offsets, smallest=by.smallest, threads=threads)


def oversegmented(values: Array, offsets: Offsets, *, by: Decoder, threads: int | None = None) -> NDArray[np.int32]:
    """Return the fragments (*S) that a decoder would agglomerate."""
    return fragments(
        values,
        offsets,
        threshold=by.membrane,
        separation=by.separation,
        sections=by.sections,
        threads=threads,
    )


def without_small(
    labels: NDArray[np.int32], values: Array, *, offsets: Offsets, smallest: int, threads: int | None = None
) -> NDArray[np.int32]:
    """Return labels (*S) whose segments of fewer voxels have given way to the others, see `filled`."""
    if smallest <= 1:
        return labels
    kept = labels.copy()
    if not sized(kept, smallest):
        return kept
    return filled(kept, values, offsets=offsets, threads=threads)
