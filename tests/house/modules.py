"""Read the package's source as text and syntax trees; nothing here imports it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "limner"

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
Definition: TypeAlias = Function | ast.ClassDef


@dataclass(frozen=True)
class Module:
    """One source file: its dotted name, whether it is a folder's `__init__`, and its text."""

    name: str
    text: str
    is_package: bool = False

    @property
    def room(self) -> str:
        """The name right below the package: `space` for `limner.space.grid`, `__init__` for the package itself."""
        return self.name.split(".")[1] if "." in self.name else "__init__"

    @property
    def package(self) -> str:
        """The dotted name that a relative import starts from."""
        return self.name if self.is_package else self.name.rpartition(".")[0]

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, filename=self.name)

    def definitions(self) -> Iterator[tuple[Definition, tuple[Definition, ...]]]:
        """Every function and class, each with what encloses it, outermost first."""
        yield from _definitions(self.tree, ())

    def functions(self) -> Iterator[tuple[Function, tuple[Definition, ...]]]:
        """Every function, nested ones and methods too, each with what encloses it."""
        for node, outer in self.definitions():
            if not isinstance(node, ast.ClassDef):
                yield node, outer


def _definitions(node: ast.AST, outer: tuple[Definition, ...]) -> Iterator[tuple[Definition, tuple[Definition, ...]]]:
    for child in ast.iter_child_nodes(node):
        inner = outer
        if isinstance(child, Definition):
            yield child, outer
            inner = (*outer, child)
        yield from _definitions(child, inner)


def module(path: Path, source: Path) -> Module:
    """Read one file below the source folder."""
    parts = path.relative_to(source).with_suffix("").parts
    is_package = parts[-1] == "__init__"
    return Module(".".join(parts[:-1] if is_package else parts), path.read_text(encoding="utf-8"), is_package)


def modules() -> list[Module]:
    """Read every module of the package."""
    source = ROOT / "src"
    return [module(path, source) for path in sorted((source / PACKAGE).rglob("*.py"))]


def bases(node: ast.ClassDef) -> set[str]:
    """The last names of a class's bases: {"Protocol"} for `typing.Protocol[T]`."""
    return {ast.unparse(base).partition("[")[0].rpartition(".")[2] for base in node.bases}
