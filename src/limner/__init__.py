"""limner outlines anatomy in biomedical images when there are few labels, or none.

The public names are loaded when they are first used, so that importing limner costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "Atlas": "limner.priors.atlas",
    "Box": "limner.space",
    "CaseReport": "limner.report",
    "Grid": "limner.space",
    "InputError": "limner.check",
    "InputWarning": "limner.check",
    "LabelTable": "limner.space",
    "Mixture": "limner.methods.mixture",
    "Model": "limner.methods.storage",
    "NeighbourTable": "limner.priors.neighbours",
    "Options": "limner.inference",
    "Recipe": "limner.training.recipe",
    "Segmentation": "limner.inference",
    "Volume": "limner.space",
    "build_atlas": "limner.priors.averaging",
    "compared": "limner.evaluation",
    "evaluate": "limner.evaluation",
    "load_model": "limner.methods.storage",
    "load_prior": "limner.priors.storage",
    "load_recipe": "limner.training.recipe",
    "open_volume": "limner.files",
    "place_scan": "limner.methods.placement",
    "report_folder": "limner.report",
    "save_prior": "limner.priors.storage",
    "save_volume": "limner.files",
    "segment_scans": "limner.inference",
    "segment_volume": "limner.inference",
    "summarised": "limner.evaluation",
    "train": "limner.training.run",
    "write_report": "limner.report",
}

__all__ = [
    "Atlas",
    "Box",
    "CaseReport",
    "Grid",
    "InputError",
    "InputWarning",
    "LabelTable",
    "Mixture",
    "Model",
    "NeighbourTable",
    "Options",
    "Recipe",
    "Segmentation",
    "Volume",
    "build_atlas",
    "compared",
    "evaluate",
    "load_model",
    "load_prior",
    "load_recipe",
    "open_volume",
    "place_scan",
    "report_folder",
    "save_prior",
    "save_volume",
    "segment_scans",
    "segment_volume",
    "summarised",
    "train",
    "write_report",
]


def __getattr__(name: str) -> Any:
    """Load a public name from the room it lives in."""
    if name not in _HOMES:
        raise AttributeError(f"module 'limner' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """Return the public names, for completion."""
    return sorted(__all__)
