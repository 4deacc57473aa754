"""Methods: one paper, one file, one line here.

Source: each method names its own.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from limner import check

#: Where each method lives. Names, not classes, so that listing them loads nothing.
METHODS = {
    "affinity": "limner.methods.affinity:Affinity",
    "anatomy": "limner.methods.anatomy:Anatomy",
    "autoencoder": "limner.methods.autoencoder:Autoencoder",
    "mean_teacher": "limner.methods.mean_teacher:MeanTeacher",
    "mixture": "limner.methods.mixture:Mixture",
    "sae": "limner.methods.sae:SAE",
    "supervised": "limner.methods.supervised:Supervised",
    "translation": "limner.methods.translation:Translation",
}


def method_class(name: str) -> Any:
    """Return the class of a method.

    Raises:
        InputError: for a name that is not in METHODS, with the nearest that is.
    """
    if name not in METHODS:
        raise check.unknown_name("method", name, known=METHODS)
    module, _, attribute = METHODS[name].partition(":")
    return getattr(import_module(module), attribute)
