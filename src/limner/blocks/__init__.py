"""Volumes that no memory holds: worked on block by block, on the ledger, from file to file. No torch."""

from __future__ import annotations

from limner.blocks.run import BLOCK, block_size, segment_blocks

__all__ = ["BLOCK", "block_size", "segment_blocks"]
