"""The memory that control groups leave to this process: the limit of a SLURM job (--mem) or of a container."""

import math
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

OWN, ROOT = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")

# Of a control group: the file of its limit, that of its use, and the line of memory.stat with the file cache that is
# not in use. Versions 2 and 1 of the kernel's interface.
VERSION_2 = ("memory.max", "memory.current", "inactive_file")
VERSION_1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def allowed_bytes(own: Path = OWN, root: Path = ROOT) -> float:
    """Bytes that this process may take before a limit of its control groups ends it; infinite without a limit.

    The least of (limit - use + unused file cache) over its group and all groups above, at least 0: SLURM limits the
    job, of which the process' own group is a part. Use counts the file cache, which the kernel gives up first.
    Args: own, the kernel's list of this process' groups; root, where groups are mounted.
    """
    return max(0, min(_rooms(own, root), default=math.inf))


def _rooms(own: Path, root: Path) -> Iterator[float]:
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if not controllers:
            # beside version 1, version 2 is mounted one folder lower
            yield from (_room(folder, VERSION_2) for top in (root, root / "unified") for folder in _levels(top, group))
        elif "memory" in controllers.split(","):
            yield from (_room(folder, VERSION_1) for folder in _levels(root / "memory", group))


def _levels(top: Path, group: str) -> list[Path]:
    """The folders of a group and of all groups above it, `top` the last."""
    parts = PurePosixPath(group.lstrip("/")).parts
    # a group outside of what a container sees is written with "..": only the container's own limit can be read
    parts = () if ".." in parts else parts
    return [top.joinpath(*parts[:n]) for n in range(len(parts), -1, -1)]


def _room(folder: Path, names: tuple[str, str, str]) -> float:
    """Bytes that one group leaves; infinite where it has no limit, or none that can be read."""
    limit, use, cache = names
    try:
        text = (folder / limit).read_text(encoding="ascii").strip()
        if text == "max":
            return math.inf
        return int(text) - int((folder / use).read_text(encoding="ascii")) + _statistic(folder / "memory.stat", cache)
    except (OSError, ValueError):
        return math.inf


def _statistic(path: Path, name: str) -> int:
    pairs = (line.partition(" ") for line in path.read_text(encoding="ascii").splitlines())
    return next((int(value) for key, _, value in pairs if key == name), 0)
