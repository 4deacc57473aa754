"""The page as a file: one, with everything it shows inside, and without scripts."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import count
from pathlib import Path

from limner.files import replacing
from limner.report.case import CaseReport
from limner.report.head import head
from limner.report.section import section
from limner.space import LabelTable


def write_report(
    path: str | Path,
    cases: Iterable[CaseReport],
    *,
    table: LabelTable,
    title: str,
    facts: Mapping[str, str | Sequence[str]],
) -> None:
    """Write the HTML report of scans that were segmented; the file appears whole or not at all.

    Args:
        path: of the file.
        cases: the scans, asked for one at a time: none is kept in memory once it is drawn. One that cannot be drawn
            is shown as failed.
        table: names and colours the labels.
        title: of the page.
        facts: what was run, by name; one line for each item where the value is a sequence.

    Raises:
        InputError: if the file cannot be written.
    """
    path = Path(path)
    # What the page begins with is known only after the last scan, so the scans wait in a file of their own.
    with replacing(path) as temporary, tempfile.TemporaryFile("w+", encoding="utf-8", dir=path.parent) as scans:
        outcomes = []
        # Not a loop over the cases: its variable would hold one scan while the next is read.
        for html, outcome in map(partial(section, table=table), cases, map("scan-{}".format, count(1))):
            scans.write(html)
            outcomes.append(outcome)
        scans.seek(0)
        with temporary.open("w", encoding="utf-8") as page:
            page.write(head(title, facts, outcomes=outcomes, table=table))
            shutil.copyfileobj(scans, page)
            page.write("</body>\n</html>\n")
