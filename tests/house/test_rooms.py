"""Rooms stay small: lines of files and functions, parameters, names, and nothing big without a reason on record."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median

import pytest

from house.modules import ROOT, Definition, Function, Module, bases, modules

FILE_LINES = 399
FUNCTION_LINES = 60
SHORT_LINES, SHORT_SHARE = 29, 0.9
MEDIAN_LINES = 8
PARAMETERS = 8
POSITIONAL = 2
# Modules of this name, or in a folder of it: numba compiles no call with keyword-only arguments from one compiled
# function to another.
MACHINE_CODE = "kernels"
BYTES = 1_000_000

CODE_FOLDERS = ("src", "tests", "benchmarks")
# Names that say nothing of what is inside, and copies made for fear of changing the original.
VAGUE = re.compile(r"^(utils?|helpers?|common|misc|stuff|.*_(v\d+|old|new|copy))$")
UNFINISHED = re.compile(r"\b(TODO|FIXME)\b")


def lines_of(function: Function) -> int | None:
    """Lines of a function's body without its docstring, from the first statement to the last; None for a mere stub."""
    body = function.body[1:] if ast.get_docstring(function, clean=False) is not None else function.body
    if not body or all(_says_nothing(statement) for statement in body):
        return None
    first = min(node.lineno for node in [body[0], *getattr(body[0], "decorator_list", [])])
    return (body[-1].end_lineno or first) - first + 1


def _says_nothing(statement: ast.stmt) -> bool:
    """Whether a statement is the `...` or `pass` of a signature without a body."""
    dots = (
        isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant) and statement.value.value is ...
    )
    return dots or isinstance(statement, ast.Pass)


def long_files(texts: Iterable[tuple[str, str]]) -> list[str]:
    """Files of too many lines, given as (name, text). One that only lists names from elsewhere may be long."""
    counts = ((name, len(text.splitlines())) for name, text in texts if not _lists_names(text))
    return [f"{name}: {count} lines; expected at most {FILE_LINES}" for name, count in counts if count > FILE_LINES]


def _lists_names(text: str) -> bool:
    """Whether a module holds nothing but a docstring, imports and `__all__`."""
    body = ast.parse(text).body
    listed = [one for one in body if isinstance(one, ast.Assign) and ast.unparse(one.targets[0]) == "__all__"]
    rest = [one for one in body if not isinstance(one, (ast.Import, ast.ImportFrom, ast.Expr)) and one not in listed]
    return bool(listed) and not rest


def long_functions(module: Module) -> list[str]:
    """Functions of a module that exceed the longest length allowed."""
    return [
        f"{module.name}:{function.lineno} {function.name} has {lines} lines; expected at most {FUNCTION_LINES}"
        for function, _ in module.functions()
        if (lines := lines_of(function) or 0) > FUNCTION_LINES
    ]


def unbalanced(lengths: Sequence[int]) -> list[str]:
    """What the lengths of all functions together say: the usual one is short."""
    if not lengths:
        return []
    share = sum(length <= SHORT_LINES for length in lengths) / len(lengths)
    middle = median(lengths)
    found = [f"median function has {middle:g} lines; expected at most {MEDIAN_LINES}"] * (middle > MEDIAN_LINES)
    few = f"{share:.1%} of functions have at most {SHORT_LINES} lines; expected {SHORT_SHARE:.0%}"
    return found + [few] * (share < SHORT_SHARE)


def crowded(module: Module) -> list[str]:
    """Functions of a module with too many parameters, or too many that are told apart by position alone."""
    if module.room == "cli":  # the parameters of a command are its options: named where they are used, and many
        return []
    found = []
    for function, outer in module.functions():
        positional, total = _parameters(function, outer)
        where = f"{module.name}:{function.lineno} {function.name}"
        if total > PARAMETERS:
            found.append(f"{where} has {total} parameters; expected at most {PARAMETERS}")
        elif positional > POSITIONAL and not (
            MACHINE_CODE in module.name.split(".") or _signature_is_given(function, outer)
        ):
            found.append(f"{where} takes {positional} by position; expected '*' after the first {POSITIONAL}")
    return found


def _parameters(function: Function, outer: tuple[Definition, ...]) -> tuple[int, int]:
    """Count the parameters told by position, and all; the object or class a method belongs to is not one."""
    arguments = function.args
    in_class = bool(outer) and isinstance(outer[-1], ast.ClassDef)
    static = any(ast.unparse(decorator) == "staticmethod" for decorator in function.decorator_list)
    positional = len(arguments.posonlyargs) + len(arguments.args) - (in_class and not static)
    return positional, positional + len(arguments.kwonlyargs) + bool(arguments.vararg) + bool(arguments.kwarg)


def _signature_is_given(function: Function, outer: tuple[Definition, ...]) -> bool:
    """Whether Python or torch prescribes the order: `__exit__`, and what `Function.apply` calls by position."""
    special = re.fullmatch(r"__\w+__", function.name) and function.name not in {"__init__", "__new__", "__call__"}
    owner = outer[-1] if outer else None
    differentiable = isinstance(owner, ast.ClassDef) and "Function" in bases(owner)
    return bool(special) or (differentiable and function.name in {"forward", "backward", "setup_context"})


def vague(paths: Iterable[Path]) -> list[str]:
    """Files and folders whose name does not say what is inside."""
    return [f"{path}: '{part}' names no room" for path in paths for part in path.parts if VAGUE.match(Path(part).stem)]


def unfinished(texts: Iterable[tuple[str, str]]) -> list[str]:
    """Lines, of files given as (name, text), that put something off."""
    return [
        f"{name}:{number} {line.strip()}"
        for name, text in texts
        for number, line in enumerate(text.splitlines(), start=1)
        if UNFINISHED.search(line)
    ]


def unexplained(sizes: Iterable[tuple[str, int]], notes: str) -> list[str]:
    """Big files, given as (path, bytes), that the design notes do not name."""
    return [
        f"{path}: {size} bytes and not named in docs/design/; say there why it must be here"
        for path, size in sizes
        if size > BYTES and path not in notes
    ]


def code() -> list[tuple[str, str]]:
    """Name and text of every Python file of ours."""
    paths = (path for folder in CODE_FOLDERS for path in sorted((ROOT / folder).rglob("*.py")))
    return [(str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")) for path in paths]


def committed() -> list[str]:
    """Paths that are, or are about to be, under version control."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git checkout: what is under version control cannot be told")
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [path for path in listed.split("\0") if path and (ROOT / path).is_file()]


def test_files_are_short() -> None:
    assert long_files(code()) == []


def test_no_function_is_long() -> None:
    assert [found for module in modules() for found in long_functions(module)] == []


def test_the_usual_function_is_short() -> None:
    lengths = [lines_of(function) for module in modules() for function, _ in module.functions()]
    assert unbalanced([length for length in lengths if length is not None]) == []


def test_parameters_are_few_and_named() -> None:
    assert [found for module in modules() for found in crowded(module)] == []


def test_names_say_what_is_inside() -> None:
    assert vague(Path(name) for name, _ in code()) == []


def test_nothing_is_put_off() -> None:
    here = str(Path(__file__).relative_to(ROOT))  # which must name the words it looks for
    assert unfinished((name, text) for name, text in code() if name != here) == []


def test_big_files_have_a_reason() -> None:
    notes = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs/design").glob("*.md")))
    assert unexplained(((path, (ROOT / path).stat().st_size) for path in committed()), notes) == []


# --- the rules themselves can fail


def sample(*lines: str, name: str = "limner.space.grid") -> Module:
    return Module(name, "\n".join(lines))


def body(count: int) -> list[str]:
    return [f"    x = {number}" for number in range(count)]


def only_function(module: Module) -> Function:
    ((function, _),) = module.functions()
    return function


def test_a_long_file_is_refused() -> None:
    assert long_files([("a.py", "x\n" * 399)]) == []
    assert long_files([("a.py", "x\n" * 400)]) == ["a.py: 400 lines; expected at most 399"]
    names = "".join(f"from b import c{number}\n" for number in range(400)) + "__all__ = []\n"
    assert long_files([("a.py", names)]) == []
    assert long_files([("a.py", names + "d = 1\n")]) != []


def test_docstrings_do_not_count() -> None:
    assert lines_of(only_function(sample("def f():", '    """One.', "", "    Two.", '    """', *body(3)))) == 3


def test_decorators_and_inner_functions_count() -> None:
    assert lines_of(only_function(sample("def f():", *body(2)))) == 2
    lengths = [
        lines_of(found) for found, _ in sample("def f():", "    @cache", "    def g():", "        pass").functions()
    ]
    assert lengths == [3, None]


@pytest.mark.parametrize("stub", ["    ...", "    pass", '    """Say."""', '    """Say."""\n    ...'])
def test_stubs_are_not_counted_as_short_functions(stub: str) -> None:
    assert lines_of(only_function(sample("def f():", stub))) is None


def test_a_long_function_is_refused() -> None:
    assert long_functions(sample("def f():", *body(60))) == []
    assert "f has 61 lines" in long_functions(sample("class A:", "    def f():", *(f"    {x}" for x in body(61))))[0]


def test_too_many_long_functions_are_refused() -> None:
    assert unbalanced([8] * 9 + [60]) == []
    assert unbalanced([]) == []
    assert "89.5% of functions have at most 29 lines" in unbalanced([8] * 17 + [30] * 2)[0]
    assert unbalanced([9] * 10) == ["median function has 9 lines; expected at most 8"]


@pytest.mark.parametrize(
    "lines",
    [
        ["def f(a, b, c): return 1"],
        ["def f(a, /, b, c=1): return 1"],
        ["def f(a, b, *, c, d, e, f, g, h, i): return 1"],
        ["def f(a, b, *c, d, e, f, g, h, **i): return 1"],
        ["class A:", "    def f(self, a, b, c): return 1"],
        ["class A:", "    @staticmethod", "    def f(a, b, c): return 1"],
        ["class A:", "    def __init__(self, a, b, c): return 1"],
        ["def f():", "    def g(a, b, c): return 1"],
    ],
)
def test_many_parameters_are_refused(lines: list[str]) -> None:
    assert len(crowded(sample(*lines))) == 1


@pytest.mark.parametrize(
    "lines",
    [
        ["def f(a, b, *, c, d, e, f, g, h): return 1"],
        ["class A:", "    def f(self, a, b): return 1"],
        ["class A:", "    @classmethod", "    def f(cls, a, b): return 1"],
        ["class A:", "    def __exit__(self, kind, error, trace): return 1"],
        ["class A(torch.autograd.Function):", "    @staticmethod", "    def forward(ctx, q, table, size): return 1"],
    ],
)
def test_few_or_prescribed_parameters_pass(lines: list[str]) -> None:
    assert crowded(sample(*lines)) == []


@pytest.mark.parametrize("name", ["limner.cli", "limner.cli.learning"])
def test_commands_may_have_many_options(name: str) -> None:
    assert crowded(sample("def f(a, b, c, d, e, f, g, h, i): return 1", name=name)) == []


def test_machine_code_takes_arguments_by_position_but_not_many() -> None:
    for name in ("limner.priors.kernels", "limner.instances.kernels.forest"):
        assert crowded(sample("def f(a, b, c): return 1", name=name)) == []
    assert len(crowded(sample("def f(a, b, c, d, e, f, g, h, i): return 1", name="limner.priors.kernels"))) == 1


@pytest.mark.parametrize("name", ["utils.py", "util.py", "helpers/a.py", "atlas_v2.py", "atlas_old.py", "misc.py"])
def test_names_that_say_nothing_are_refused(name: str) -> None:
    assert len(vague([Path("src/limner") / name])) == 1


def test_names_that_say_something_pass() -> None:
    assert vague([Path("src/limner/space/grid.py"), Path("src/limner/priors/renewal.py")]) == []


@pytest.mark.parametrize("word", ["TODO", "FIXME"])
def test_a_word_that_puts_off_is_refused(word: str) -> None:
    assert unfinished([("a.py", f"x = 1\ny = 2  # {word}: soon")]) == [f"a.py:2 y = 2  # {word}: soon"]
    assert unfinished([("a.py", f"{word.lower()}s = 1")]) == []


def test_a_big_file_needs_a_reason() -> None:
    assert len(unexplained([("src/big.bin", BYTES + 1)], "")) == 1
    assert unexplained([("src/big.bin", BYTES + 1)], "`src/big.bin` is the prior that ships") == []
    assert unexplained([("src/small.bin", BYTES)], "") == []
