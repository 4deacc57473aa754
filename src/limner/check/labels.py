"""Word ids and structures that a label table does not know, and tables that cannot be used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from limner.check.errors import InputError


def unknown_labels(counts: Mapping[int, int], name: object) -> InputError:
    """Word labels that the table does not know.

    Args:
        counts: for each unknown id, how many voxels have it.
        name: the label map's file or case, or words that end in one, in quotes.
    """
    named = name if str(name).endswith("'") else f"'{name}'"
    listed = ", ".join(f"{label} ({count} voxel{'s' * (count > 1)})" for label, count in counts.items())
    return InputError(
        f"{named} has labels that the label table does not know: {listed}; expected ids of the table: "
        "give a table that names them with --labels TABLE, or count them as background with --fold-unknown"
    )


def unknown_id(label: int, known: int) -> InputError:
    """Word an id that a table of `known` ids does not have."""
    return InputError(
        f"label {label} is not in the label table; expected one of its {known} ids: choose one, or extend the table"
    )


def unknown_structure(name: str, known: Sequence[str]) -> InputError:
    """Word a structure that the table does not have."""
    return InputError(
        f"structure '{name}' is not in the label table; expected one of {', '.join(known)}: correct the name"
    )


def table(name: object, reason: str) -> InputError:
    """Word a label table that cannot be used."""
    return InputError(
        f"label table '{name}' {reason}; "
        "expected columns id,name[,red,green,blue][,structure][,tissue]: correct the table"
    )
