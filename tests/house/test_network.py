"""The guard in conftest.py: a test that reaches for another machine fails, one that talks to itself does not."""

from __future__ import annotations

import socket

import pytest


def test_other_machines_are_out_of_reach() -> None:
    with socket.socket() as client, pytest.raises(pytest.fail.Exception, match="tried to connect to 192.0.2.1"):
        client.connect(("192.0.2.1", 80))  # an address reserved for documentation


def test_this_machine_is_within_reach() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as client:
        client.connect(server.getsockname())
