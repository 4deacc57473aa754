"""Word every error about what the user gave, in one place.

A function here either inspects its argument and raises, or returns the `InputError` to be raised where the
trouble was found. A message says what it is about (argument, file or case), what was expected, what came
instead, and what to do.
"""

from __future__ import annotations

from limner.check.cases import no_shared_case, same_names, unpaired, unshared_cases, without_prediction
from limner.check.errors import InputError, InputWarning
from limner.check.files import (
    affine_lost,
    ambiguous_arrays,
    existing_file,
    long_quaternion,
    no_affine,
    no_orientation,
    not_gzip,
    other_unit,
    pickled,
    sheared,
    squeezed,
    unknown_suffix,
    unreadable,
    unwritable,
)
from limner.check.geometry import Gridded, affine, orientation, same_grid
from limner.check.labels import table, unknown_id, unknown_labels, unknown_structure
from limner.check.priors import (
    alignable,
    class_count,
    class_indices,
    labelled,
    mask_not_empty,
    pair_counts,
    prior_damaged,
    prior_missing,
    prior_needed,
    prior_occupied,
    prior_version,
    structures_missing,
    window_size,
)
from limner.check.voxels import finite, label_map, numeric, three_dimensional, varied, volume, whole_numbers

__all__ = [
    "Gridded",
    "InputError",
    "InputWarning",
    "affine",
    "affine_lost",
    "alignable",
    "ambiguous_arrays",
    "class_count",
    "class_indices",
    "existing_file",
    "finite",
    "label_map",
    "labelled",
    "long_quaternion",
    "mask_not_empty",
    "no_affine",
    "no_orientation",
    "no_shared_case",
    "not_gzip",
    "numeric",
    "orientation",
    "other_unit",
    "pair_counts",
    "pickled",
    "prior_damaged",
    "prior_missing",
    "prior_needed",
    "prior_occupied",
    "prior_version",
    "same_grid",
    "same_names",
    "sheared",
    "squeezed",
    "structures_missing",
    "table",
    "three_dimensional",
    "unknown_id",
    "unknown_labels",
    "unknown_structure",
    "unknown_suffix",
    "unpaired",
    "unreadable",
    "unshared_cases",
    "unwritable",
    "varied",
    "volume",
    "whole_numbers",
    "window_size",
    "without_prediction",
]
