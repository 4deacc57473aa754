"""Find what README.md tells its readers to type, so that tests can do it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from house.modules import ROOT

FENCE = re.compile(
    r"^(?P<fence>`{3,})(?P<language>[\w+-]*)[^\n]*\n(?P<text>.*?)^(?P=fence)[ \t]*$", re.MULTILINE | re.DOTALL
)
SHELLS = frozenset({"console", "bash", "sh", "shell"})


@dataclass(frozen=True)
class Block:
    """One fenced block: its language as written after the fence, its text, and the line the text begins on."""

    language: str
    text: str
    line: int

    @property
    def commands(self) -> list[str]:
        """What a reader types, one command an item, continued lines joined.

        In a `console` block only lines after `$ ` are typed, the rest is what the computer answers; in the other
        shells every line is, but comments.
        """
        lines = self.text.replace("\\\n", " ").splitlines()
        if self.language == "console":
            lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        return [
            re.sub(r"\s+", " ", line).strip() for line in lines if line.strip() and not line.lstrip().startswith("#")
        ]


def blocks(text: str) -> list[Block]:
    """Every fenced block of a Markdown text, in order."""
    return [
        Block(found["language"], found["text"], text.count("\n", 0, found.start("text")) + 1)
        for found in FENCE.finditer(text)
    ]


def readme_blocks(language: str) -> list[Block]:
    """The README's blocks in one language, such as `python`; `shell` stands for every kind of shell block."""
    wanted = SHELLS if language == "shell" else {language}
    return [block for block in blocks((ROOT / "README.md").read_text(encoding="utf-8")) if block.language in wanted]
