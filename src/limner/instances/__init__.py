"""Labels to affinities, and affinities to segments. No torch."""

from __future__ import annotations

from limner.instances.affinities import affinities_of, ends, nearest, valid
from limner.instances.agglomeration import Merges, RegionGraph, agglomerated, merges, region_graph
from limner.instances.connected import PART, REACH, components, grown, limit_of
from limner.instances.flooding import fragments, watershed
from limner.instances.mutex import mutex_watershed
from limner.instances.stitching import Fragments, contacts, fragments_of, stitched, without_dust

__all__ = [
    "PART",
    "REACH",
    "Fragments",
    "Merges",
    "RegionGraph",
    "affinities_of",
    "agglomerated",
    "components",
    "contacts",
    "ends",
    "fragments",
    "fragments_of",
    "grown",
    "limit_of",
    "merges",
    "mutex_watershed",
    "nearest",
    "region_graph",
    "stitched",
    "valid",
    "watershed",
    "without_dust",
]
