"""What every test is given: real data where there is some, and no network."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from hypothesis import settings

VARIABLE = "LIMNER_DATA"
LOCAL = ("127.", "localhost", "::1")

# A busy machine is no reason to fail, nor is the first call of a function that is compiled then.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the slow tests; skip those marked `real`, saying so, where nobody says where real data lies."""
    # Begun last, they would keep one worker busy while the others have nothing left to do.
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
    if os.environ.get(VARIABLE):
        return
    for item in items:
        if item.get_closest_marker("real"):
            item.add_marker(pytest.mark.skip(reason=f"reads real data: set {VARIABLE} to the folder that holds it"))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data; a test that asks for it carries the mark `real`."""
    folder = os.environ.get(VARIABLE)
    if not folder:
        pytest.skip(f"reads real data: set {VARIABLE} to the folder that holds it")
    if not Path(folder).is_dir():
        pytest.fail(f"{VARIABLE} names '{folder}', which is no folder", pytrace=False)
    return Path(folder)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail a test that reaches for another machine: nothing limner does needs one."""
    connect = socket.socket.connect

    def connect_here(self: socket.socket, address: object) -> None:
        host = address[0] if isinstance(address, tuple) else ""  # other kinds of address are files of this machine
        if host and not str(host).startswith(LOCAL):
            pytest.fail(f"a test tried to connect to {host}", pytrace=False)
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect_here)
