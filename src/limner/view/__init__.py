"""Volumes and what was made of them, to be looked at in a browser: neuroglancer, from files, offline. No torch."""

from __future__ import annotations

from limner.view.browser import library, viewer
from limner.view.layers import Layer, layers_of

__all__ = ["Layer", "layers_of", "library", "viewer"]
