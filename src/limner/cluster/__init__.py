"""Many items worked through: one ledger of what is done, and the executors that do it, on one machine or many.

An item is a scan, a block of a volume, a cell of a study. Whoever has items says how one is done (`Begin`, `Work`);
here is what must hold for all of them: what is done stays done, what is not is done again, and nobody's death or
mistake stops the rest.
"""

from __future__ import annotations

from limner.cluster.ledger import Item, Ledger, Made, Outcome
from limner.cluster.local import Processes, Serial
from limner.cluster.remote import Cluster, Profile, Slurm
from limner.cluster.work import Begin, Executor, Job, Progress, Work, begun, worked_through

__all__ = [
    "Begin",
    "Cluster",
    "Executor",
    "Item",
    "Job",
    "Ledger",
    "Made",
    "Outcome",
    "Processes",
    "Profile",
    "Progress",
    "Serial",
    "Slurm",
    "Work",
    "begun",
    "worked_through",
]
