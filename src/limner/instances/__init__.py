"""Labels to affinities, and affinities to segments. No torch."""

from __future__ import annotations

from limner.instances.affinities import affinities_of, ends, nearest, valid
from limner.instances.agglomeration import Merges, RegionGraph, agglomerated, assembled, merges, region_graph
from limner.instances.climbing import Climb, fragments, fragments_within
from limner.instances.connected import PART, REACH, components, filled, grown, limit_of
from limner.instances.flooding import watershed
from limner.instances.mutex import mutex_watershed
from limner.instances.stitching import Fragments, agreed, contacts, fragments_of, settled, stitched, without_dust

__all__ = [
    "PART",
    "REACH",
    "Climb",
    "Fragments",
    "Merges",
    "RegionGraph",
    "affinities_of",
    "agglomerated",
    "agreed",
    "assembled",
    "components",
    "contacts",
    "ends",
    "filled",
    "fragments",
    "fragments_of",
    "fragments_within",
    "grown",
    "limit_of",
    "merges",
    "mutex_watershed",
    "nearest",
    "region_graph",
    "settled",
    "stitched",
    "valid",
    "watershed",
    "without_dust",
]
