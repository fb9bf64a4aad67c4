"""Where a job computes: a GPU that no other job on this machine has claimed, or the processor, with its threads."""

import fcntl
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from knatlas.errors import AtlasError, unknown

DEVICES = ("auto", "cpu", "cuda")

# Open files of the locks that this process holds. The kernel releases them when the process ends, however it ends.
_claims: dict[Path, int] = {}


@dataclass(frozen=True)
class Gpu:
    """A GPU that PyTorch sees.

    index: its number among the visible ones; uuid: the same in all processes, whatever they see; free_bytes: asks for
    its free memory.
    """

    index: int
    uuid: str
    # asked only when it decides: the question itself opens the GPU, which takes some of its memory
    free_bytes: Callable[[], int]


def use_threads(n_threads: int) -> None:
    """Let PyTorch compute with as many threads of the processor as the job was given. Raises: AtlasError below 1."""
    if n_threads < 1:
        raise AtlasError(f"threads is {n_threads}; expected at least 1. Set compute.threads of the study.")
    torch.set_num_threads(n_threads)


def choose_device(where: str, device: str, log: Callable[[str], None] = lambda line: None) -> torch.device:
    """The device of this process; a GPU is claimed for it until the process ends, and becomes PyTorch's current one.

    Args: where, begins the sentences of errors; device "cpu", "cuda" (a GPU, by `claim_gpu`), or "auto" (a GPU where
    there is one); log, receives a sentence when a GPU had to be taken unclaimed.
    Raises: AtlasError for another word, or "cuda" where PyTorch finds no GPU.
    """
    if device not in DEVICES:
        raise AtlasError(unknown(f"{where}: device", device, "a device", DEVICES))
    gpus = [] if device == "cpu" else visible_gpus()
    if device == "cuda" and not gpus:
        raise AtlasError(
            f"{where}: device is 'cuda', but PyTorch finds no CUDA device here{_visibility()}; check the driver, that "
            "PyTorch was installed with CUDA, and that this job was given a GPU (resource gpu, partition), or compute "
            "without one: compute.device 'cpu' and compute.gpus 0"
        )
    if not gpus:
        return torch.device("cpu")
    gpu = claim_gpu(gpus, lock_folder(), log)
    # what names no number ("cuda") then means the same GPU, and opens no other
    torch.cuda.set_device(gpu.index)
    return torch.device("cuda", gpu.index)


def visible_gpus() -> list[Gpu]:
    """The GPUs that PyTorch sees, in its order; CUDA_VISIBLE_DEVICES and the cluster decide which those are."""
    if not torch.cuda.is_available():
        return []
    uuids = [str(torch.cuda.get_device_properties(index).uuid) for index in range(torch.cuda.device_count())]
    return [Gpu(index, uuid, lambda index=index: _free_bytes(index)) for index, uuid in enumerate(uuids)]


def claim_gpu(gpus: Sequence[Gpu], folder: Path, log: Callable[[str], None]) -> Gpu:
    """The GPU this process has claimed before, else the first that no other job of this user has, and claim it.

    A claim is an exclusive lock on a file per GPU, held until the process ends. When none can be claimed, the GPU with
    the most free memory, and the log says why; a single GPU is taken anyway, without a word.
    Args: gpus, at least one; folder, where the files of locks are.
    """
    paths = {gpu: folder / f"knatlas-{os.getuid()}-{gpu.uuid}.lock" for gpu in gpus}
    reasons = []
    for gpu in sorted(gpus, key=lambda gpu: paths[gpu] not in _claims):
        reason = _claim(paths[gpu])
        if reason is None:
            return gpu
        reasons.append(f"cuda:{gpu.index} {reason}")
    if len(gpus) == 1:
        return gpus[0]
    gpu = max(gpus, key=lambda gpu: gpu.free_bytes())
    log(f"{'; '.join(reasons)}. This job takes cuda:{gpu.index}, which has the most free memory.")
    return gpu


def lock_folder() -> Path:
    """The temporary folder, the same for all jobs of a user on a machine."""
    # not tempfile.gettempdir: it takes the working folder, where no lock belongs, when there is no temporary one
    return Path(os.environ.get("TMPDIR") or "/tmp")


def _claim(path: Path) -> str | None:
    """Lock a file until this process ends; None when that was done, else why not."""
    if path in _claims:
        return None
    descriptor = -1
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if descriptor >= 0:
            os.close(descriptor)
        taken = isinstance(error, BlockingIOError)
        return "is claimed by another job" if taken else f"cannot be claimed ({path}: {error.strerror})"
    _claims[path] = descriptor
    return None


def _free_bytes(index: int) -> int:
    """Free memory of a GPU, bytes; 0 where it cannot be opened, as one that is full or reserved by its owner."""
    try:
        return torch.cuda.mem_get_info(index)[0]
    except RuntimeError:
        return 0


def _visibility() -> str:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return "" if visible is None else f" (CUDA_VISIBLE_DEVICES is '{visible}')"
