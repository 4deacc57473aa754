"""What the tests of every wording share: they compare messages in full, as a user reads them.

That a message comes up where it should is tested with the room it is for.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from limner.check import InputError

SCAN = Path("data/scan.nii.gz")

Inspection: TypeAlias = Callable[[], InputError | None]


def refusal(inspect: Inspection) -> str:
    """What is said by an error that is raised, or returned for others to raise."""
    try:
        error = inspect()
    except InputError as raised:
        error = raised
    assert type(error) is InputError
    return str(error)
