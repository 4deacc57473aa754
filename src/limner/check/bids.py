"""Word BIDS datasets that cannot be used."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from limner.check.errors import InputError, InputWarning


def description(path: Path, reason: object) -> InputError:
    """Word the description of a dataset that is no JSON."""
    return InputError(
        f"'{path}' is not the JSON of a BIDS dataset ({reason}); expected an object with its Name and BIDSVersion: "
        "mend it, or name the scans instead of the folder"
    )


def no_anatomy(root: Path, suffixes: Sequence[str], *, people: int) -> InputError:
    """Word a dataset of so many people without anatomical images."""
    return InputError(
        f"BIDS dataset '{root}' of {people} people holds no anatomical images; expected "
        f"sub-NAME[/ses-NAME]/anat/*_SUFFIX.nii.gz, SUFFIX one of {', '.join(suffixes)}: correct it, or name the scans"
    )


def without_contrast(root: Path, suffix: str, *, people: Sequence[str]) -> InputWarning:
    """Word people who are left out because they have no image of the contrast that is taken."""
    listed = ", ".join(people[:5]) + ", ..." * (len(people) > 5)
    return InputWarning(
        f"of BIDS dataset '{root}' the {suffix} images are taken; {listed} have none and were left out: "
        "name their other images to have them too"
    )


def not_bids(path: Path) -> InputError:
    """Word a scan in a BIDS dataset whose name is not made of entities."""
    return InputError(
        f"'{path}' has no name that BIDS knows; expected entities and a suffix, such as sub-01_ses-2_T1w.nii.gz: "
        "rename it, or name the scans instead of the folder"
    )
