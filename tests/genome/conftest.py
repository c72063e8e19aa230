"""Loopback servers that have the file of `genome.downloads` and its checksum."""

from __future__ import annotations

import pytest

from genome.downloads import BYTES, NAME, publish
from genome.misbehaving import running


@pytest.fixture
def server(monkeypatch):
    monkeypatch.delenv("KLEIBER_DATA", raising=False)
    with running() as server:
        server.files[f"/{NAME}"] = BYTES
        publish(server)
        yield server


@pytest.fixture
def second():
    with running() as server:
        server.files[f"/{NAME}"] = BYTES
        publish(server)
        yield server
