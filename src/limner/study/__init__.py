"""Methods, seeds and shares of labels compared: a study's cells, worked through on the ledger, and what they say."""

from __future__ import annotations

from limner.study.cells import StudyRecipe, load_study
from limner.study.run import run_study

__all__ = ["StudyRecipe", "load_study", "run_study"]
