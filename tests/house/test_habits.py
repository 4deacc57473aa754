"""Habits kept everywhere in the package: no hidden state, nothing unpickled, every public name explained.

These are tests rather than rules of the linter where a `noqa` must not switch them off, or where no linter has them.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from house.modules import Definition, Module, bases, modules

# Dotted names, or beginnings of them, that no module may mention, and why. Aliases of imports are resolved.
BANNED = {
    "print": "only cli speaks to the terminal; warn, log or return",
    "breakpoint": "a debugger left behind",
    "eval": "nothing that comes from a file is executed",
    "exec": "nothing that comes from a file is executed",
    "os.environ": "settings are arguments; cli and cluster alone may set what other libraries read",
    "os.getenv": "settings are arguments",
    "os.putenv": "settings are arguments",
    "pickle": "unpickling executes what the file says; use safetensors and JSON",
    "cloudpickle": "unpickling executes what the file says; use safetensors and JSON",
    "dill": "unpickling executes what the file says; use safetensors and JSON",
    "joblib.load": "unpickling executes what the file says; use safetensors and JSON",
    "marshal": "a format of one Python version; use safetensors and JSON",
    "shelve": "unpickling executes what the file says; use safetensors and JSON",
    "pandas.read_pickle": "unpickling executes what the file says; use CSV or JSON",
    "torch.load": "unpickling executes what the file says; use safetensors and JSON",
    "torch.save": "writes a pickle; use safetensors and JSON",
    "random": "hidden global state; take an `rng`",
    "numpy.random": "hidden global state; take an `rng`",
    "torch.seed": "hidden global state; take a generator",
    "torch.manual_seed": "hidden global state; take a generator",
    "torch.random": "hidden global state; take a generator",
    "torch.cuda.manual_seed": "hidden global state; take a generator",
    "torch.cuda.manual_seed_all": "hidden global state; take a generator",
}
# What lies below a banned name and is good all the same.
ALLOWED = re.compile(r"numpy\.random\.(default_rng|Generator|BitGenerator|SeedSequence|PCG64(DXSM)?|Philox)$")
# Rooms and what they may do all the same.
MAY = frozenset({("cli", "print"), ("cli", "os.environ"), ("cluster", "os.environ")})

# Where a paper is behind the code, the code names it: a metric, loss, prior or method ends with `Source:`.
FROM_PAPERS = frozenset({"losses", "priors", "evaluation", "methods"})
SOURCE = re.compile(r"^\s*Source:\s*\S", re.MULTILINE)


def aliases(module: Module) -> dict[str, str]:
    """What each imported name stands for: {"np": "numpy", "manual_seed": "torch.manual_seed"}."""
    known: dict[str, str] = {}
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            known |= {name.asname: name.name for name in node.names if name.asname}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            known |= {name.asname or name.name: f"{node.module}.{name.name}" for name in node.names}
    return known


def mentioned(module: Module) -> Iterator[tuple[int, str]]:
    """Line and full dotted name of whatever a module imports or reads."""
    known = aliases(module)
    inner = {id(node.value) for node in ast.walk(module.tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from ((node.lineno, f"{node.module}.{name.name}") for name in node.names)
        elif isinstance(node, ast.Attribute | ast.Name) and isinstance(node.ctx, ast.Load) and id(node) not in inner:
            yield from ((node.lineno, name) for name in [_dotted(node, known)] if name)


def _dotted(node: ast.expr, known: dict[str, str]) -> str | None:
    """The full name of `a.b.c`, aliases resolved; None where it does not begin with a name."""
    if isinstance(node, ast.Name):
        return known.get(node.id, node.id)
    if isinstance(node, ast.Attribute) and (owner := _dotted(node.value, known)):
        return f"{owner}.{node.attr}"
    return None


def banned(module: Module) -> list[str]:
    """Mentions of names that no module may use."""
    own = _own_names(module)
    return [
        f"{module.name}:{line} {name}: {BANNED[root]}"
        for line, name in sorted(set(mentioned(module)))
        for root in [_root(name)]
        if root and name.partition(".")[0] not in own and not ALLOWED.match(name) and not _may(module, root)
    ]


def _root(name: str) -> str | None:
    """The entry of BANNED that a dotted name is, or lies below."""
    parts = name.split(".")
    return next((root for end in range(len(parts)) if (root := ".".join(parts[: end + 1])) in BANNED), None)


def _may(module: Module, root: str) -> bool:
    return (module.room, root) in MAY


def _own_names(module: Module) -> set[str]:
    """Arguments and variables called `random` or `eval` where no such module is imported: not the banned ones."""
    nodes = list(ast.walk(module.tree))
    stored = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    arguments = {node.arg for node in nodes if isinstance(node, ast.arg)}
    packages = {name.name.partition(".")[0] for node in nodes if isinstance(node, ast.Import) for name in node.names}
    return (stored | arguments) - packages


def asserting(module: Module) -> list[str]:
    """Assert statements: they vanish under `python -O`, and their text helps nobody."""
    lines = sorted(node.lineno for node in ast.walk(module.tree) if isinstance(node, ast.Assert))
    return [f"{module.name}:{line} assert; raise an error of check" for line in lines]


def risky_calls(module: Module) -> list[str]:
    """Calls whose arguments make them unsafe or unrepeatable."""
    known = aliases(module)
    found = []
    for call in (node for node in ast.walk(module.tree) if isinstance(node, ast.Call)):
        where = f"{module.name}:{call.lineno}"
        if any(word.arg == "allow_pickle" and ast.unparse(word.value) != "False" for word in call.keywords):
            found.append(f"{where} allow_pickle; only allow_pickle=False")
        if _dotted(call.func, known) == "numpy.random.default_rng" and not call.args and not call.keywords:
            found.append(f"{where} default_rng() without a seed differs in every run; take an `rng`")
    return found


def public(module: Module) -> list[Definition]:
    """Functions, classes and methods that others may use; what lies inside a function is nobody's business."""
    return [
        node
        for node, outer in module.definitions()
        if not any(name.startswith("_") for name in [node.name, *(definition.name for definition in outer)])
        and all(isinstance(definition, ast.ClassDef) for definition in outer)
        and not {"overload", "setter"} & {ast.unparse(mark).rpartition(".")[2] for mark in node.decorator_list}
    ]


def unexplained(module: Module) -> list[str]:
    """Public names, and the module itself, without a docstring."""
    empty = not module.tree.body
    itself = [] if empty or ast.get_docstring(module.tree) else [f"{module.name} has no docstring"]
    return itself + [
        f"{module.name}:{node.lineno} {node.name} has no docstring"
        for node in public(module)
        if not ast.get_docstring(node)
    ]


def sourceless(module: Module) -> list[str]:
    """Modules with a metric, loss, prior or method that name no source, in their docstring or a public name's.

    A module of protocols alone defines none. What is our own says so: `Source: our own, ...`.
    """
    defined = [node for node in public(module) if not (isinstance(node, ast.ClassDef) and "Protocol" in bases(node))]
    protocols = {child for node in public(module) if node not in defined for child in ast.walk(node)}
    if module.room not in FROM_PAPERS or not [node for node in defined if node not in protocols]:
        return []
    explained = [ast.get_docstring(node) or "" for node in [module.tree, *public(module)]]
    return [] if any(SOURCE.search(text) for text in explained) else [f"{module.name} names no `Source:`"]


RULES = (banned, asserting, risky_calls, unexplained, sourceless)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_habits_are_kept(rule) -> None:
    assert [found for module in modules() for found in rule(module)] == []


# --- the rules themselves can fail


def sample(text: str, name: str = "limner.space.grid") -> Module:
    return Module(name, text)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("print('hello')", "print"),
        ("tell = print", "print"),
        ("from rich import print\nprint(1)", None),
        ("import os\nx = os.environ['HOME']", "os.environ"),
        ("from os import environ", "os.environ"),
        ("import os as system\nsystem.getenv('HOME')", "os.getenv"),
        ("import pickle", "pickle"),
        ("def f():\n    from pickle import loads", "pickle.loads"),
        ("import torch\ntorch.load('x')", "torch.load"),
        ("import torch\ntorch.save({}, 'x')", "torch.save"),
        ("import pandas as pd\npd.read_pickle('x')", "pandas.read_pickle"),
        ("import numpy as np\nnp.random.seed(1)", "numpy.random.seed"),
        ("import numpy as np\nnp.random.rand(3)", "numpy.random.rand"),
        ("from numpy.random import rand", "numpy.random.rand"),
        ("from torch import manual_seed", "torch.manual_seed"),
        ("import torch as t\nt.cuda.manual_seed_all(1)", "torch.cuda.manual_seed_all"),
        ("import random", "random"),
        ("import random\ndef f(random): return random", "random"),
        ("eval('1')", "eval"),
    ],
)
def test_banned_names_are_refused(text: str, name: str | None) -> None:
    found = banned(sample(text))
    assert (name is None) == (found == [])
    assert name is None or f" {name}: " in found[0]


@pytest.mark.parametrize(
    "text",
    [
        "import numpy as np\nrng = np.random.default_rng(seed)",
        "import numpy as np\ndef f(rng: np.random.Generator): return rng.random(3)",
        "model.eval()\nstream.print()\ntensor.random_()",
        "def f(random): return random.draw()",
        "import torch\ntorch.Generator().manual_seed(1)",
        "import torch\ntorch.loads = 1",
    ],
)
def test_harmless_names_pass(text: str) -> None:
    assert banned(sample(text)) == []


@pytest.mark.parametrize("name", ["limner.cli", "limner.cli.learning"])
def test_commands_may_print_and_tell_libraries(name: str) -> None:
    assert banned(sample("print('hello')", name=name)) == []
    assert banned(sample("import os\nos.environ.setdefault('A', 'b')", name=name)) == []
    assert len(banned(sample("import pickle", name=name))) == 1


def test_assert_is_refused() -> None:
    assert asserting(sample("def f(x):\n    assert x, 'no'")) == ["limner.space.grid:2 assert; raise an error of check"]


@pytest.mark.parametrize(
    "text",
    [
        "import numpy as np\nnp.load('x', allow_pickle=True)",
        "import numpy as np\nnp.load('x', allow_pickle=flag)",
        "import numpy as np\nrng = np.random.default_rng()",
        "from numpy.random import default_rng\nrng = default_rng()",
    ],
)
def test_risky_calls_are_refused(text: str) -> None:
    assert len(risky_calls(sample(text))) == 1


def test_safe_calls_pass() -> None:
    assert risky_calls(sample("import numpy as np\nnp.load('x', allow_pickle=False)\nnp.random.default_rng(7)")) == []


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("x = 1", ["limner.space.grid"]),
        ("'''Say.'''\ndef f(): pass", ["f"]),
        ("'''Say.'''\nclass A:\n    '''Say.'''\n    def f(self): pass", ["f"]),
        ("'''Say.'''\nclass A:\n    @property\n    def f(self): pass", ["A", "f"]),
        ("'''Say.'''\nclass A:\n    class B:\n        '''Say.'''\n    x = 1", ["A"]),
        ("'''Say.'''\nif x:\n    def f(): pass", ["f"]),
    ],
)
def test_missing_docstrings_are_refused(text: str, missing: list[str]) -> None:
    assert [found.removesuffix(" has no docstring").split()[-1] for found in unexplained(sample(text))] == missing


@pytest.mark.parametrize(
    "text",
    [
        "",
        "'''Say.'''\ndef _f(): pass",
        "'''Say.'''\nclass _A:\n    def f(self): pass",
        "'''Say.'''\ndef f():\n    '''Say.'''\n    def g(): pass",
        "'''Say.'''\nclass A:\n    '''Say.'''\n    def __len__(self): pass",
        "'''Say.'''\n@overload\ndef f(): ...\ndef f():\n    '''Say.'''",
    ],
)
def test_private_and_inner_names_need_none(text: str) -> None:
    assert unexplained(sample(text)) == []


METRIC = "'''Say.'''\ndef dice(a, b):\n    '''Overlap.{}'''"


@pytest.mark.parametrize("name", ["limner.evaluation.overlap", "limner.methods.mixture", "limner.losses"])
@pytest.mark.parametrize("end", ["", "\n\n    Source:", "\n\n    sources differ"])
def test_missing_sources_are_refused(name: str, end: str) -> None:
    assert sourceless(sample(METRIC.format(end), name=name)) == [f"{name} names no `Source:`"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("limner.evaluation.overlap", METRIC.format("\n\n    Source: Dice 1945, eq. 1.\n    ")),
        ("limner.evaluation.overlap", "'''Say.\n\nSource: Dice 1945.'''\ndef dice(): pass"),
        ("limner.evaluation.overlap", "'''Say.\n\nSource:\n    Dice 1945.'''\ndef dice(): pass"),
        ("limner.evaluation", "'''Say.'''\nfrom limner.evaluation.overlap import dice"),
        ("limner.priors.prior", "'''Say.'''\nclass Prior(Protocol):\n    def place(self): ..."),
        ("limner.space.grid", METRIC.format("")),
    ],
)
def test_sources_where_they_are_due_pass(name: str, text: str) -> None:
    assert sourceless(sample(text, name=name)) == []
