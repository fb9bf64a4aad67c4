"""A SLURM for the tests, copies of the repository beside it, and the study run through it and without it."""

import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from knatlas.provenance import record_path

from ..workflow.conftest import copy_repository
from .cluster import Cluster, install, missing_programs

STUDY = ("--configfile", "tests/slurm/study.yaml")
# the first look at a job should come just after the end of most; each look in vain adds ten seconds to the next pause
PROFILE = (*STUDY, "--profile", "slurm", "--slurm-init-seconds-before-status-checks", "10", "--latency-wait", "5")
RESULTS = "results/loopback"
KNOWN, CARD = f"{RESULTS}/known/smoke-gpt2.parquet", f"{RESULTS}/facts/data_card.md"


def need_slurm() -> None:
    """Install SLURM where it is missing; skip where that is impossible, or fail if KNATLAS_REQUIRE_SLURM says so."""
    reason = install() if missing_programs() else ""
    if reason and os.environ.get("KNATLAS_REQUIRE_SLURM") == "1":
        pytest.fail(f"{reason} (KNATLAS_REQUIRE_SLURM=1: this test must not be skipped)")
    if reason:
        pytest.skip(reason)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory) -> Iterator[Cluster]:
    """The cluster; whatever happens, nothing of it is left when the tests end."""
    need_slurm()
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # SIGTERM cleans up as Ctrl-C does
    cluster = Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        cluster.up()
        yield cluster
    finally:
        cluster.down()
        signal.signal(signal.SIGTERM, before)
    end = time.monotonic() + 10
    while cluster.survivors() and time.monotonic() < end:
        time.sleep(0.2)
    assert not cluster.survivors(), f"these processes outlive their cluster: {cluster.survivors()}"


@pytest.fixture(scope="session")
def calls(cluster, root, tmp_path_factory) -> SimpleNamespace:
    """The calls of Snakemake that several tests look at, started together, because most of their time is waiting.

    `there`: the study through SLURM. `here`: the same without it, done. `troubled`: jobs that lack memory and input.
    `limited`: a job that is too slow for its first attempt. Each runs in a copy of the repository of its own.
    """
    names = ("there", "here", "limited")
    folders = {name: copy_repository(root, tmp_path_factory.mktemp(name)).folder for name in names}
    calls = SimpleNamespace()
    target = ("--snakefile", "tests/slurm/limits.smk", "--directory", "computed", "toy.txt")
    calls.limited = cluster.snakemake(folders["limited"], *PROFILE, *target)
    calls.there = cluster.snakemake(folders["there"], *PROFILE, "selection")
    calls.here = cluster.snakemake(folders["here"], *STUDY, "--cores", "2", "selection").succeed()
    calls.troubled = cluster.snakemake(
        trouble(folders["here"], tmp_path_factory.mktemp("troubled")), *PROFILE, KNOWN, CARD
    )
    return calls


def trouble(computed: Path, folder: Path) -> Path:
    """A copy in which jobs that run a model first ask for too little memory, and a table for the data card is empty."""
    shutil.copytree(computed, folder, copy_function=shutil.copy2, dirs_exist_ok=True)
    (folder / KNOWN).unlink()
    cleaning = folder / RESULTS / "facts" / "cleaning.csv"
    cleaning.write_text("")
    record_path(cleaning).unlink()
    requests = folder / "knatlas" / "planning" / "requests.py"
    text = requests.read_text()
    usual = "EXTRA_MB, MEMORY_FACTOR, MB_STEP = 2000, 1.25, 100"
    assert text.count(usual) == 1
    # about 550 MB are used, of which a sum over processes counts some twice
    requests.write_text(text.replace(usual, "EXTRA_MB, MEMORY_FACTOR, MB_STEP = 466, 0, 1"))
    return folder


@pytest.fixture
def copy(calls, tmp_path) -> Path:
    """A copy of the computed study, times of files included, to be changed at will."""
    return shutil.copytree(calls.here.folder, tmp_path / "copy", copy_function=shutil.copy2)
