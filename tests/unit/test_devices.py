"""Jobs on one machine take different GPUs, give them back however they end, and take no more threads than they got."""

import errno
import fcntl
import os
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from knatlas.errors import AtlasError
from knatlas.models import devices
from knatlas.models.devices import Gpu, choose_device, claim_gpu, lock_folder, use_threads, visible_gpus
from knatlas.models.loading import load_model
from knatlas.models.sources import ModelSource

FREE = (5, 9, 7)


def fakes(n_gpus, asked=None):
    def free(index):
        if asked is not None:
            asked.append(index)
        return FREE[index]

    return [Gpu(index, f"GPU-{index}", lambda index=index: free(index)) for index in range(n_gpus)]


def lock_path(folder, index):
    return folder / f"knatlas-{os.getuid()}-GPU-{index}.lock"


@pytest.fixture(autouse=True)
def own_claims(monkeypatch):
    """Claims of a test end with it, as they end with a process."""
    claims = {}
    monkeypatch.setattr(devices, "_claims", claims)
    yield claims
    for descriptor in claims.values():
        os.close(descriptor)


@pytest.fixture
def another_job(tmp_path):
    """Claim GPUs as another process would: locks of files that were opened separately exclude each other."""
    held = []

    def claim(*indices):
        for index in indices:
            held.append(lock_path(tmp_path, index).open("w"))
            fcntl.flock(held[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)
        return held

    yield claim
    for file in held:
        file.close()


def test_the_first_free_gpu_is_claimed_and_nobody_is_asked_for_memory(tmp_path, another_job):
    asked, log = [], []
    another_job(0)
    assert claim_gpu(fakes(3, asked), tmp_path, log.append).index == 1
    assert asked == [] and log == []


def test_a_process_keeps_its_gpu_although_an_earlier_one_becomes_free(tmp_path, another_job):
    held = another_job(0)
    assert claim_gpu(fakes(3), tmp_path, print).index == 1
    held[0].close()
    assert claim_gpu(fakes(3), tmp_path, print).index == 1
    assert claim_gpu(list(reversed(fakes(3))), tmp_path, print).index == 1


def test_where_all_are_claimed_the_one_with_the_most_free_memory_is_taken_and_the_log_says_so(tmp_path, another_job):
    log = []
    another_job(0, 1, 2)
    assert claim_gpu(fakes(3), tmp_path, log.append).index == 1
    assert log == [
        "cuda:0 is claimed by another job; cuda:1 is claimed by another job; cuda:2 is claimed by another job. "
        "This job takes cuda:1, which has the most free memory."
    ]


def test_a_single_gpu_is_taken_without_a_word_but_claimed_where_it_can_be(tmp_path, another_job, own_claims):
    log = []
    another_job(0)
    assert claim_gpu(fakes(1), tmp_path, log.append).index == 0 and own_claims == {}
    assert claim_gpu(fakes(1), tmp_path / "missing", log.append).index == 0 and own_claims == {}
    assert claim_gpu(fakes(2)[1:], tmp_path, log.append).index == 1
    assert list(own_claims) == [lock_path(tmp_path, 1)] and log == []


def as_missing(folder):
    return folder / "missing"


def as_file(folder):
    (folder / "file").write_text("")
    return folder / "file"


def as_links(folder):
    for index in range(3):
        lock_path(folder, index).symlink_to(folder / f"elsewhere-{index}")
    return folder


@pytest.mark.parametrize(
    "prepare, number", [(as_missing, errno.ENOENT), (as_file, errno.ENOTDIR), (as_links, errno.ELOOP)]
)
def test_without_a_place_for_locks_free_memory_decides(tmp_path, prepare, number, own_claims):
    log, folder = [], prepare(tmp_path)
    assert claim_gpu(fakes(3), folder, log.append).index == 1
    assert len(log) == 1 and os.strerror(number) in log[0] and str(lock_path(folder, 0)) in log[0] and own_claims == {}
    assert list(tmp_path.glob("elsewhere*")) == []


def test_on_a_read_only_folder_free_memory_decides(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    log = []
    monkeypatch.setattr(os, "open", refuse)
    assert claim_gpu(fakes(3), tmp_path, log.append).index == 1 and os.strerror(errno.EROFS) in log[0]


def test_a_file_that_cannot_be_locked_is_closed_and_the_next_gpu_claimed(tmp_path, another_job):
    another_job(0)
    before = len(os.listdir("/proc/self/fd"))
    lock_path(tmp_path, 1).mkdir()
    assert claim_gpu(fakes(3), tmp_path, print).index == 2
    assert len(os.listdir("/proc/self/fd")) == before + 1


def test_locks_lie_in_the_temporary_folder_and_never_in_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "own"))
    assert lock_folder() == tmp_path / "own"
    for forget in (lambda: monkeypatch.setenv("TMPDIR", ""), lambda: monkeypatch.delenv("TMPDIR")):
        forget()
        assert str(lock_folder()) == "/tmp"


PROGRAM = """
import sys
from pathlib import Path

from knatlas.models.devices import Gpu, claim_gpu

gpus = [Gpu(index, f"GPU-{index}", lambda free=free: free) for index, free in enumerate((5, 9))]
log = []
print(claim_gpu(gpus, Path(sys.argv[1]), log.append).index, *log, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def start(tmp_path, root):
    """Start a process that claims one of two GPUs and stays; returns it. Its first line is its answer."""
    processes = []

    def begin():
        command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
        environment = {**os.environ, "PYTHONPATH": str(root)}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        processes.append(subprocess.Popen(command, env=environment, **pipes))
        return processes[-1]

    yield begin
    for process in processes:
        process.kill()
        process.communicate()


def test_two_processes_take_different_gpus_and_kill_9_gives_one_back(start):
    one, other = start(), start()
    first, second = one.stdout.readline(), other.stdout.readline()
    assert {first, second} == {"0\n", "1\n"}
    third = start()
    assert third.stdout.readline().startswith("1 cuda:0 is claimed by another job; cuda:1 is claimed by another job.")
    one.kill()  # SIGKILL
    assert one.wait() == -9
    assert start().stdout.readline() == first


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """PyTorch as on a machine with two GPUs, the second one unable to say its memory; returns what was made current."""
    current = []

    def memory(index):
        if index == 1:
            raise RuntimeError("CUDA error: out of memory")
        return 11, 80

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid=f"GPU-{index}"))
    monkeypatch.setattr(torch.cuda, "mem_get_info", memory)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    return current


def test_visible_gpus_are_those_of_pytorch_and_one_that_cannot_be_opened_has_no_memory(machine):
    assert [(gpu.index, gpu.uuid, gpu.free_bytes()) for gpu in visible_gpus()] == [(0, "GPU-0", 11), (1, "GPU-1", 0)]


@pytest.mark.parametrize("word", ["auto", "cuda"])
def test_a_job_computes_on_the_gpu_it_claimed_and_leaves_the_environment_alone(word, machine, another_job, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    before = dict(os.environ)
    another_job(0)
    assert choose_device("models: m", word) == torch.device("cuda", 1)
    assert machine == [1] and dict(os.environ) == before


def test_the_processor_is_taken_where_it_is_asked_for_and_claims_nothing(machine, own_claims, tmp_path):
    assert choose_device("models: m", "cpu") == torch.device("cpu")
    assert own_claims == {} and machine == [] and list(tmp_path.iterdir()) == []


def test_the_log_of_a_job_says_that_its_gpu_is_shared(machine, another_job, tmp_path):
    log = []
    another_job(0, 1)
    with pytest.raises(AtlasError, match="m"):  # chosen before the folder is looked at, which is empty
        load_model(ModelSource("m", tmp_path, "random", str(tmp_path)), device="cuda", log=log.append)
    assert len(log) == 1 and log[0].endswith("This job takes cuda:0, which has the most free memory.")


@pytest.mark.parametrize("visible, words", [(None, ";"), ("", r" \(CUDA_VISIBLE_DEVICES is ''\);")])
def test_a_gpu_that_was_promised_and_is_not_there_stops_the_job_before_a_model_is_read(
    visible, words, monkeypatch, tmp_path
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    source = ModelSource("m", tmp_path / "missing", "random", "")
    with pytest.raises(AtlasError, match=rf"models: m: device is 'cuda', but PyTorch finds no CUDA device here{words}"):
        load_model(source, device="cuda")
    assert choose_device("models: m", "auto") == torch.device("cpu")


def test_pytorch_takes_as_many_threads_as_the_job_has():
    before = torch.get_num_threads()
    try:
        for n_threads in (2, 1):
            use_threads(n_threads)
            assert torch.get_num_threads() == n_threads
        with pytest.raises(AtlasError, match="threads is 0; expected at least 1"):
            use_threads(0)
    finally:
        torch.set_num_threads(before)


def test_every_script_that_runs_a_model_takes_its_threads_and_logs_its_gpu(root):
    found = []
    for path in (root / "scripts").glob("*.py"):
        text = path.read_text()
        if "load_model" in text:
            found.append(path.name)
            before = text[: text.index("load_model(")]
            assert "use_threads(snakemake.threads)\n" in before, path
            assert re.search(r"load_model\(.*job\.log\)\n", text), path
    assert {"attribute_shard.py", "manipulate_activations.py", "measure_known.py"} <= set(found)


def test_threads_are_set_in_one_place_and_for_training_which_is_exact_with_one_thread_only(root):
    paths = [path for folder in ("knatlas", "scripts") for path in (root / folder).rglob("*.py")]
    found = {str(path.relative_to(root)) for path in paths if "set_num_threads" in path.read_text()}
    assert found == {"knatlas/models/devices.py", "knatlas/models/embedded/training.py"}
    rules = (root / "rules" / "models.smk").read_text()
    training = next(rule for rule in re.split(r"\n(?=rule )", rules) if "train_model.py" in rule)
    assert "threads: 1\n" in training


def test_nothing_changes_which_gpus_are_visible(root):
    paths = [path for folder in ("knatlas", "scripts", "rules") for path in (root / folder).rglob("*.*")]
    texts = [path.read_text() for path in paths if path.suffix in (".py", ".smk")]
    assert not any(re.search(r"CUDA_VISIBLE_DEVICES[\"']\]\s*=|nvidia-smi", text) for text in texts)
