"""Free memory of a processor: no more than the limits of the process' control groups leave."""

import math
from types import SimpleNamespace

import psutil
import pytest
import torch

from knatlas.attribution import memory
from knatlas.attribution.memory import free_bytes
from knatlas.attribution.memory_limit import allowed_bytes

JOB = "system.slice/slurmstepd.scope/job_7"
TASK = f"{JOB}/step_0/user/task_0"


@pytest.fixture
def kernel(tmp_path):
    """Write control groups; returns what a process of these groups may take."""
    (tmp_path / "root").mkdir()

    def group(folder, **files):
        path = tmp_path / "root" / folder
        path.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (path / f"memory.{name}").write_text(f"{text}\n")

    def allowed(lines):
        (tmp_path / "own").write_text(lines)
        return allowed_bytes(tmp_path / "own", tmp_path / "root")

    return SimpleNamespace(group=group, allowed=allowed)


def test_a_limit_leaves_what_is_not_used(kernel):
    kernel.group(TASK, max=1000, current=300, stat="anon 250\ninactive_file 0\nactive_file 50")
    assert kernel.allowed(f"0::/{TASK}\n") == 700


def test_file_cache_that_is_not_in_use_counts_as_free(kernel):
    kernel.group(TASK, max=1000, current=900, stat="anon 100\ninactive_file 650\nactive_file 150")
    assert kernel.allowed(f"0::/{TASK}\n") == 750


def test_the_tightest_of_all_levels_counts(kernel):
    kernel.group("", max=5000, current=4000, stat="")
    kernel.group("system.slice", max="max", current=3000, stat="")
    kernel.group(JOB, max=1000, current=400, stat="inactive_file 0")
    kernel.group(TASK, max="max", current=100, stat="inactive_file 0")
    assert kernel.allowed(f"0::/{TASK}\n") == 600
    kernel.group(TASK, max=150)
    assert kernel.allowed(f"0::/{TASK}\n") == 50
    assert kernel.allowed("0::/\n") == 1000


def test_nothing_is_left_once_use_is_beyond_the_limit(kernel):
    kernel.group(TASK, max=1000, current=1200, stat="inactive_file 10")
    assert kernel.allowed(f"0::/{TASK}\n") == 0


def test_the_first_version_has_its_own_files_and_its_own_mount(kernel):
    own = f"9:name=systemd:/{TASK}\n4:cpu,memory:/slurm/uid_5/job_7\n3:cpuset:/\n0::/\n"
    kernel.group("memory", limit_in_bytes=9223372036854771712, usage_in_bytes=10**9, stat="total_inactive_file 5")
    assert kernel.allowed(own) > 1 << 62
    stat = "inactive_file 90\ntotal_inactive_file 200"
    kernel.group("memory/slurm/uid_5/job_7", limit_in_bytes=1000, usage_in_bytes=300, stat=stat)
    assert kernel.allowed(own) == 900
    kernel.group(f"memory/{TASK}", limit_in_bytes=1, usage_in_bytes=0, stat="")
    assert kernel.allowed(own) == 900  # the group of another controller


def test_the_second_version_beside_the_first_is_mounted_one_folder_lower(kernel):
    kernel.group("unified/a/b", max=1000, current=300, stat="inactive_file 0")
    assert kernel.allowed("4:memory:/\n0::/a/b\n") == 700


def test_a_container_that_cannot_see_its_group_has_the_limit_of_its_root(kernel):
    kernel.group("", max=1000, current=300, stat="inactive_file 0")
    assert kernel.allowed("0::/docker/1234\n") == 700  # no such folder inside
    kernel.group("../other", max=5, current=0, stat="inactive_file 0")  # no group: outside of the mount
    assert kernel.allowed("0::/../other\n") == 700


@pytest.mark.parametrize("files", [{}, {"max": "max"}, {"max": 10}, {"max": "many", "current": 1, "stat": ""}])
def test_without_a_limit_that_can_be_read_there_is_none(kernel, files):
    kernel.group(TASK, **files)
    assert kernel.allowed(f"0::/{TASK}\n") == math.inf


def test_without_control_groups_there_is_no_limit(kernel, tmp_path):
    assert kernel.allowed("") == math.inf
    assert allowed_bytes(tmp_path / "missing", tmp_path / "missing") == math.inf


@pytest.mark.parametrize("available, allowed, expected", [(100, math.inf, 100), (100, 70.0, 70), (50, 70, 50)])
def test_free_memory_is_what_the_machine_has_and_the_job_may_take(monkeypatch, available, allowed, expected):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=available))
    monkeypatch.setattr(memory, "allowed_bytes", lambda: allowed)
    free = free_bytes(torch.device("cpu"))
    assert free == expected and isinstance(free, int)


def test_free_memory_of_a_gpu_has_no_limit_of_the_processor(monkeypatch):
    monkeypatch.setattr(memory, "allowed_bytes", lambda: 1)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1234, 5678))
    assert free_bytes(torch.device("cuda", 1)) == 1234
