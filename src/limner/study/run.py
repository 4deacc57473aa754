"""A study from a recipe to its tables, cell by cell."""

from __future__ import annotations

from pathlib import Path

from limner import check
from limner.cluster import Executor, Job, Ledger, Outcome, Progress, Serial, worked_through
from limner.config import load, save
from limner.study.cells import StudyRecipe, cells
from limner.study.tables import write_tables
from limner.study.work import STUDY, Begin, CellWork, cases_to_test

LEDGER = "ledger"


def run_study(
    study: StudyRecipe,
    out: Path,
    *,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> list[Outcome]:
    """Train and test every cell of a study that is not done yet, and write what they say.

    The folder `out` then holds study.toml, cells/, ledger/, cells.csv, table.md and pictures. The same again goes on
    where it was stopped; rows, seeds and shares may be added.

    Args:
        study: what is compared.
        out: its folder.
        executor: who does it; this process, one cell after another, unless given.
        progress: told how far it has come.

    Returns:
        What came of each cell.

    Raises:
        InputError: for a folder of another study.
    """
    out = Path(out).absolute()
    out.mkdir(parents=True, exist_ok=True)
    if (out / STUDY).exists():
        check.same_study(out, load(out / STUDY, StudyRecipe).recipe, given=study.recipe)
    elif any(out.iterdir()):
        raise check.no_study(out)
    check.tested_on_some(len(cases_to_test(study.run(next(iter(study.methods)), study.amounts[0], seed=0))[0]))
    save(study, out / STUDY)
    begin = Begin(out)
    work = CellWork(out, study)
    ledger = Ledger.opened(out / LEDGER, work.facts)
    items = [work.item(cell) for cell in cells(study)]
    job = Job(begin, ledger)
    outcomes = list(worked_through(items, job, executor=executor or Serial(), progress=progress or Progress()))
    write_tables(study, out, without={outcome.name for outcome in outcomes if outcome.error})
    return outcomes
