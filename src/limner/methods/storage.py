"""A trained model on disk: a folder of JSON and safetensors with its prior, checked by hash, never executed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from limner import check
from limner.config import checked
from limner.data.scan import Preparation
from limner.files import replacing_folder
from limner.methods import method_class
from limner.methods.method import Task, Trainable
from limner.priors.atlas import Atlas
from limner.priors.storage import SHIPPED, load_prior, prior_hash, save_prior
from limner.space import LabelTable

FORMAT = "limner model 1"
DESCRIPTION = "model.json"
WEIGHTS = "weights.safetensors"
PRIOR = "prior"
#: Folder of the models that ship with the package; their prior is the one that ships.
MODELS = Path(__file__).parents[1] / "models"


@dataclass(frozen=True, eq=False)
class Model:
    """A trained method, and all that it takes to apply it to a scan.

    Args:
        method: trained.
        name: of the method, a key of METHODS.
        table: of the labels that its classes stand for.
        preparation: of the scans that it was trained on.
        prior: that it needs, if any.
        provenance: how it was trained, JSON-ready.
    """

    method: Trainable
    name: str
    table: LabelTable
    preparation: Preparation
    prior: Atlas | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def task(self) -> Task:
        """What the method was built for."""
        return self.method.task


def save_model(model: Model, path: str | Path) -> None:
    """Write a model as the folder `path`, which appears whole or not at all.

    A model that stood there is replaced; anything else is not.

    Raises:
        InputError: if `path` is something else, or the disk refuses.

    Source: our own.
    """
    from safetensors.torch import save

    path = Path(path)
    claim_model(path)
    # Copies: tied weights would be refused.
    weights = {name: one.detach().cpu().clone().contiguous() for name, one in model.method.state_dict().items()}
    content = save(weights)
    with replacing_folder(path) as folder:
        (folder / WEIGHTS).write_bytes(content)
        prior = save_prior(model.prior, folder / PRIOR) if model.prior else None
        description = _described(model) | {"prior": prior, "weights_sha256": hashlib.sha256(content).hexdigest()}
        (folder / DESCRIPTION).write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")


def load_model(path: str | Path) -> Model:
    """Read a model; its method is ready to predict, on the CPU.

    Raises:
        InputError: if `path` is no model, one of another version, or a damaged one.
    """
    path = Path(path)
    if not (path / DESCRIPTION).is_file():
        raise check.model_missing(path)
    try:
        description = json.loads((path / DESCRIPTION).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise check.model_damaged(path, error) from error
    check.model_version(path, description.get("format") if isinstance(description, dict) else None, expected=FORMAT)
    try:
        return _restored(path, description)
    except (OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise check.model_damaged(path, error) from error


def model_hash(path: str | Path) -> str:
    """Return the hash of a model's weights that its description records."""
    return str(json.loads((Path(path) / DESCRIPTION).read_text(encoding="utf-8"))["weights_sha256"])


def method_name(path: str | Path) -> str:
    """Return the method of a model, a key of METHODS, without loading it.

    Raises:
        InputError: if `path` is no model, or a damaged one.
    """
    path = Path(path)
    if not (path / DESCRIPTION).is_file():
        raise check.model_missing(path)
    try:
        return str(json.loads((path / DESCRIPTION).read_text(encoding="utf-8"))["method"])
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise check.model_damaged(path, error) from error


def prior_home(path: Path) -> Path:
    """Return the folder of a model's prior: its own, or the one that ships for a model that brings none."""
    own = path / PRIOR
    return own if own.is_dir() else SHIPPED


def claim_model(path: Path) -> None:
    """Make sure that a model can be written to `path`, before hours are spent on it.

    Raises:
        InputError: if `path` is something else than a model.
    """
    if path.exists() and not (path / DESCRIPTION).is_file():
        raise check.model_occupied(path)


def _described(model: Model) -> dict[str, Any]:
    """Return everything but the tensors, JSON-ready."""
    return {
        "format": FORMAT,
        "version": version("limner"),
        "method": model.name,
        "options": model.method.options.model_dump(mode="json"),
        "task": asdict(model.task),
        "preparation": model.preparation.model_dump(mode="json"),
        "provenance": dict(model.provenance),
        "table": model.table.as_dict(),
    }


def _restored(path: Path, description: dict[str, Any]) -> Model:
    """Return the model that a description, and the files beside it, hold."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    content = (path / WEIGHTS).read_bytes()
    if hashlib.sha256(content).hexdigest() != description["weights_sha256"]:
        raise ValueError(f"the hash of {WEIGHTS} is not the one recorded")
    name, source = description["method"], path / DESCRIPTION
    kind = method_class(name)
    method = kind(Task(**description["task"]), checked(description["options"], kind.Options, source=source))
    try:
        method.load_state_dict(load(content))
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    home = prior_home(path)
    prior = load_prior(home) if description["prior"] else None
    if prior and prior_hash(home) != description["prior"]:
        raise ValueError("its prior is another than the one recorded")
    table = LabelTable.from_dict(description["table"])
    preparation = checked(description["preparation"], Preparation, source=source)
    return Model(method.eval(), name, table, preparation, prior, description["provenance"])
