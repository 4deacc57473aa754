"""limner outlines anatomy in biomedical images when there are few labels, or none."""

from __future__ import annotations

__version__ = "0.1.0"

__all__ = ["__version__"]
