"""The machine in words, and the peak memory of this process."""

import os
import platform
import resource
import shutil
import subprocess
from pathlib import Path

import torch

CLEAR_REFERENCES, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
RESET_PEAK = "5"  # what the kernel takes as "set the peak of the resident set to its present size"
MEBIBYTE = 2**20


def describe(threads: int, gpu: bool = False) -> str:
    """Processor, cores, memory, threads used, versions, and the GPU where one is used, as a phrase."""
    words = f"{_processor()}, {os.cpu_count()} cores, {_memory_gib():.0f} GiB, {threads} thread"
    words += f"{'' if threads == 1 else 's'}, Python {platform.python_version()}, PyTorch {torch.__version__}"
    return f"{torch.cuda.get_device_name()}, {words}" if gpu else words


def _processor() -> str:
    """The processor's name with the matrix instructions it has, by lscpu where that is at hand."""
    if not shutil.which("lscpu"):
        return platform.processor() or platform.machine()
    lines = subprocess.run(["lscpu"], capture_output=True, text=True, check=True).stdout.splitlines()
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = fields.get("Flags", "").split()
    units = [name for name, flag in (("AVX-512", "avx512f"), ("AMX", "amx_tile")) if flag in flags]
    units = units or [name for name, flag in (("AVX2", "avx2"),) if flag in flags]
    return fields.get("Model name", platform.machine()) + (f" with {' and '.join(units)}" if units else "")


def _memory_gib() -> float:
    """Physical memory in GiB."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def reset_peak() -> float:
    """Start a new peak of the resident set where the system can; the resident set or, elsewhere, the old peak, MiB."""
    if not CLEAR_REFERENCES.exists():
        return peak()
    CLEAR_REFERENCES.write_text(RESET_PEAK)
    return peak()


def peak() -> float:
    """The largest resident set since the start or since `reset_peak`, MiB."""
    if STATUS.exists():
        line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / MEBIBYTE
    unit = 1 if platform.system() == "Darwin" else 1024  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / MEBIBYTE
