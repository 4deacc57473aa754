"""The order in which rooms may import one another, and what may not be loaded at all.

The order stands here once; whatever it does not allow is refused, so a new room is refused until it is given a place.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from house.modules import PACKAGE, Module, modules

# From left to right: a room imports from rooms to its left and from itself, never from one on its own level.
# `__init__` is the package itself, which offers the public names; `atlases` and `models` hold data: no place here.
ORDER: tuple[frozenset[str], ...] = tuple(
    frozenset(level.split())
    for level in (
        "check",
        "config space",
        "files instances evaluation networks losses",
        "preparation",
        "priors",
        "data",
        "methods",
        "training cluster",
        "blocks",
        "inference",
        "study report view",
        "__init__",
        "cli",
        "__main__",
    )
)
LEVEL = {room: level for level, rooms in enumerate(ORDER) for room in rooms}

WITHOUT_TORCH = frozenset({"check", "space", "files", "instances", "evaluation", "cluster", "blocks", "view"})
BRINGS_TORCH = frozenset({"torch", "monai", "lightning", "lightning_fabric"})

# What takes long to load, and so is imported inside the function that needs it or by the rooms that are about it.
HEAVY = (
    "torch",
    "pandas",
    "matplotlib",
    "SimpleITK",
    "h5py",
    "tifffile",
    "zarr",
    "scipy",
    "numba",
    "nilearn",
    "sklearn",
    "monai",
    "lightning_fabric",
    "tensorboard",
    "distributed",
    "dask_jobqueue",
    "neuroglancer",
    "tensorstore",
)


def imported(module: Module) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything a module imports, wherever the import stands.

    `from a import b` gives `a.b`: whether b is a module or a name in one makes no difference to the rules here.
    """
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = _origin(module, node)
            yield from ((node.lineno, f"{origin}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            yield from ((node.lineno, arg.value) for arg in node.args[:1] if isinstance(arg, ast.Constant))


def _origin(module: Module, node: ast.ImportFrom) -> str:
    """The absolute name after `from`, dots resolved."""
    if not node.level:
        return node.module or ""
    base = module.package.split(".")
    base = base[: len(base) - node.level + 1]
    return ".".join([*base, node.module] if node.module else base)


def room_of(name: str) -> str | None:
    """The room a dotted name lies in; None for another library's, `__init__` for a name of the package itself."""
    package, _, rest = name.partition(".")
    if package != PACKAGE:
        return None
    room = rest.partition(".")[0]
    return room if room in LEVEL else "__init__"


def misplaced(module: Module) -> list[str]:
    """Imports of a module that do not lie to its left."""
    if module.room not in LEVEL:
        return [f"{module.name}: '{module.room}' has no place in ORDER; give it the one it has in the design"]
    return [
        f"{module.name}:{line} imports {name}: '{room}' is not to the left of '{module.room}'"
        for line, name in imported(module)
        if (room := room_of(name)) is not None and room != module.room and LEVEL[room] >= LEVEL[module.room]
    ]


def torch_imports(module: Module) -> list[str]:
    """Imports of torch, or of what loads it, in rooms that do without."""
    if module.room not in WITHOUT_TORCH:
        return []
    return [
        f"{module.name}:{line} imports {name}: '{module.room}' does without torch"
        for line, name in imported(module)
        if name.partition(".")[0] in BRINGS_TORCH or name.startswith("safetensors.torch")
    ]


def loaded(statement: str) -> set[str]:
    """Names of all modules that a new interpreter holds after the statement."""
    program = f"import json, sys\n{statement}\nprint(json.dumps(list(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    return set(json.loads(answer.stdout))


def test_every_import_lies_to_the_left() -> None:
    assert [found for module in modules() for found in misplaced(module)] == []


def test_rooms_without_torch_never_import_it() -> None:
    assert [found for module in modules() for found in torch_imports(module)] == []


def test_rooms_without_torch_do_not_load_it_by_the_way() -> None:
    names = [module.name for module in modules() if module.room in WITHOUT_TORCH]
    assert loaded(f"import {', '.join(names)}") & BRINGS_TORCH == set()


@pytest.mark.parametrize("name", [PACKAGE, f"{PACKAGE}.check", f"{PACKAGE}.cli"])
def test_import_loads_nothing_heavy(name: str) -> None:
    assert loaded(f"import {name}") & set(HEAVY) == set()


# --- the rules themselves can fail


@pytest.mark.parametrize(
    ("name", "text", "refused"),
    [
        ("limner.space.grid", "import limner.files", "limner.files"),
        ("limner.space.grid", "from limner.files import open_volume", "limner.files.open_volume"),
        ("limner.space.grid", "from limner import files", "limner.files"),
        ("limner.space.grid", "from ..files import nifti", "limner.files.nifti"),
        ("limner.space.grid", "from .. import files", "limner.files"),
        ("limner.space.grid", "def f():\n    import limner.priors", "limner.priors"),
        ("limner.space.grid", "if TYPE_CHECKING:\n    from limner.priors import Prior", "limner.priors.Prior"),
        ("limner.space.grid", "importlib.import_module('limner.cli')", "limner.cli"),
        ("limner.files.nifti", "from limner.evaluation import overlap", "limner.evaluation.overlap"),
        ("limner.check", "from limner.space import Grid", "limner.space.Grid"),
        ("limner.study", "from limner import __version__", "limner.__version__"),
        ("limner.report.page", "from limner.cli import main", "limner.cli.main"),
    ],
)
def test_imports_to_the_right_are_refused(name: str, text: str, refused: str) -> None:
    (found,) = misplaced(Module(name, text))
    assert f"imports {refused}" in found


def test_dots_count_from_the_folder_in_an_init() -> None:
    assert misplaced(Module("limner.space", "from .grid import Grid", is_package=True)) == []
    (found,) = misplaced(Module("limner.space", "from ..files import open_volume", is_package=True))
    assert "imports limner.files.open_volume" in found


@pytest.mark.parametrize("name", ["limner.atlases.build", "limner.attic"])
def test_rooms_without_a_place_are_refused(name: str) -> None:
    (found,) = misplaced(Module(name, ""))
    assert "has no place in ORDER" in found


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("limner.files.nifti", "from limner.space import Grid\nfrom limner.files.header import Header"),
        ("limner.files.nifti", "from limner import check\nfrom .header import Header\nimport nibabel"),
        ("limner.cli", "def segment():\n    from limner import inference\n    import limner"),
        ("limner", "if TYPE_CHECKING:\n    from limner.report import Page"),
    ],
)
def test_imports_to_the_left_pass(name: str, text: str) -> None:
    assert misplaced(Module(name, text)) == []


@pytest.mark.parametrize(
    "text",
    [
        "import torch",
        "from torch.nn import functional",
        "def f():\n    import monai.metrics",
        "import safetensors.torch",
    ],
)
def test_torch_is_refused_where_it_must_not_be(text: str) -> None:
    assert len(torch_imports(Module("limner.evaluation.overlap", text))) == 1
    assert torch_imports(Module("limner.priors.atlas", text)) == []


def test_names_that_only_begin_alike_pass() -> None:
    assert torch_imports(Module("limner.space.grid", "import torchless\nimport limnerlike.cli")) == []
    assert misplaced(Module("limner.space.grid", "import limnerlike.cli")) == []


def test_loaded_sees_what_a_statement_loads() -> None:
    assert "fractions" in loaded("import fractions")
    assert "fractions" not in loaded("pass")
