"""Fixtures that several tests need."""

import os
from pathlib import Path

import pytest

# before torch is imported: small models gain nothing from more threads, and waiting threads take the other test's core
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parents[1]

# The files that take minutes, longest first.
LONG = [f"tests/workflow/test_{name}.py" for name in ("determinism", "smoke", "candidates", "data_rules", "plan")]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files before the others, so that at the end no worker is left alone with one."""
    rank = {ROOT / name: number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))


@pytest.fixture(scope="session")
def root() -> Path:
    """The root of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with real data beside the repository; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("KNATLAS_SHARED", ROOT.parent / "shared")) / "data"
    if not folder.is_dir():
        pytest.skip(f"real data not at hand: {folder} does not exist (set KNATLAS_SHARED to its parent)")
    return folder
