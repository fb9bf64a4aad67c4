"""The server, the folder that a data set goes into, and the row of a single file."""

import pytest

from .server import row_of_file, serving


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving() as server:
        yield server


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "data" / "facts"


@pytest.fixture
def one(server):
    return row_of_file(server)
