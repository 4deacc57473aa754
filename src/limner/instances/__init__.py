"""Labels to affinities, and affinities to segments. No torch."""

from __future__ import annotations

from limner.instances.affinities import affinities_of, ends, nearest, valid
from limner.instances.agglomeration import Merges, RegionGraph, agglomerated, merges, region_graph
from limner.instances.connected import components
from limner.instances.flooding import fragments, watershed
from limner.instances.mutex import mutex_watershed

__all__ = [
    "Merges",
    "RegionGraph",
    "affinities_of",
    "agglomerated",
    "components",
    "ends",
    "fragments",
    "merges",
    "mutex_watershed",
    "nearest",
    "region_graph",
    "valid",
    "watershed",
]
