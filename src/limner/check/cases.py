"""Word cases and files that cannot be told apart, or do not belong together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from limner.check.errors import InputError, InputWarning


def same_names(paths: Iterable[object]) -> InputError:
    """Word files that would be called the same however many folders lead their names."""
    listed = ", ".join(f"'{path}'" for path in paths)
    return InputError(
        f"{listed} would have the same name; expected names that differ in more than their suffix: "
        "rename one, or leave it out"
    )


def unpaired(partners: Mapping[Path, Sequence[Path]]) -> InputError:
    """Word predictions without exactly one reference of their own.

    Args:
        partners: for each such prediction, the references that suit it.
    """
    listed = "; ".join(
        f"'{path}' suits " + (", ".join(f"'{reference}'" for reference in found) or "no reference")
        for path, found in partners.items()
    )
    return InputError(
        f"predictions and references cannot be paired: {listed}; expected one reference for each prediction, of the "
        "same name or in a folder that its name begins with: rename them, or give one prediction and one reference"
    )


def without_prediction(paths: Iterable[Path]) -> InputWarning:
    """Word references that no prediction belongs to."""
    listed = ", ".join(f"'{path}'" for path in paths)
    return InputWarning(f"references without a prediction were left out: {listed}")


def no_shared_case(first: Sequence[str], second: Sequence[str]) -> InputError:
    """Word two tables of scores that have no case in common."""
    return InputError(
        f"scores to compare share no case: {', '.join(first) or 'none'} against {', '.join(second) or 'none'}; "
        "expected the same cases in both: evaluate both methods on the same scans"
    )


def unshared_cases(cases: Sequence[str]) -> InputWarning:
    """Word cases that only one of two tables of scores has."""
    return InputWarning(f"only one of the two tables has the cases {', '.join(cases)}; they were left out")
