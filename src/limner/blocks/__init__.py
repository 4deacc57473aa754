"""Volumes that no memory holds: worked on block by block, on the ledger, from file to file. No torch."""

from __future__ import annotations

from limner.blocks.run import BLOCK, block_size, connect, segment_blocks
from limner.blocks.stages import Wanted
from limner.blocks.working import Crew

__all__ = ["BLOCK", "Crew", "Wanted", "block_size", "connect", "segment_blocks"]
