"""From scan to labels: made ready, aligned, segmented by any method, brought back, and written."""

from __future__ import annotations

from limner.data.scan import lost_orientation
from limner.inference.approach import with_outliers
from limner.inference.case import Options
from limner.inference.prediction import predicted
from limner.inference.scans import segment_scans
from limner.inference.segmentation import Segmentation, segment_volume
from limner.inference.tables import MANIFEST, VOLUMES, Case
from limner.inference.tiling import tiled

__all__ = [
    "MANIFEST",
    "VOLUMES",
    "Case",
    "Options",
    "Segmentation",
    "lost_orientation",
    "predicted",
    "segment_scans",
    "segment_volume",
    "tiled",
    "with_outliers",
]
