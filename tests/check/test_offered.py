from __future__ import annotations

import inspect
from importlib import import_module
from pkgutil import iter_modules

from limner import check


def test_every_check_is_offered_by_the_package() -> None:
    rooms = [import_module(f"{check.__name__}.{room.name}") for room in iter_modules(check.__path__)]
    public = {
        name
        for room in rooms
        for name, value in vars(room).items()
        if not name.startswith("_") and inspect.getmodule(value) is room
    }
    assert set(check.__all__) == public
