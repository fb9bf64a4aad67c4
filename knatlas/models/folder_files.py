"""Which files of a model's folder are downloaded, loaded and counted in its digests. Nothing heavy is imported here."""

import hashlib
from pathlib import Path

# only what is loaded: repositories also hold the same weights in other formats, and code
DESCRIPTIONS = ("config.json", "*token*.json", "vocab*.json", "vocab*.txt", "merges.txt", "*.model")
WEIGHT_PATTERNS = {
    "safetensors": ("model*.safetensors", "model.safetensors.index.json"),
    "pickle": ("pytorch_model*.bin", "pytorch_model.bin.index.json"),
}
BLOCK = 2**16  # bytes that are read at a place of a large file
N_BLOCKS = 1024  # such places


def wanted_patterns(weights: str) -> tuple[str, ...]:
    """Patterns of the files that are downloaded, loaded and counted in a digest, for a format of the weights."""
    return (*DESCRIPTIONS, *WEIGHT_PATTERNS[weights])


def wanted_files(folder: str | Path, weights: str = "safetensors") -> list[Path]:
    """The files of a folder that are loaded, sorted by name; none where there is no such folder."""
    found, patterns = (Path(folder).iterdir() if Path(folder).is_dir() else ()), wanted_patterns(weights)
    return sorted(path for path in found if any(path.match(pattern) for pattern in patterns))


def folder_digest(folder: Path, weights: str) -> str:
    """Digest of the files that are loaded, every byte; others in the folder, such as a log, do not count."""
    whole = hashlib.sha256()
    for path in wanted_files(folder, weights):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        whole.update(f"{path.name} {content}\n".encode())
    return whole.hexdigest()[:16]


def folder_fingerprint(folder: Path, weights: str) -> str:
    """A quick digest of the same files: names, sizes, and at most 64 MiB of each, for a check at every loading.

    Of a larger file 1,024 blocks of 64 KiB are read, spread evenly: a change of one stretch as long as their distance
    (15 MB in a file of 16 GB) is always noticed, a smaller one by chance.
    """
    whole = hashlib.sha256()
    for path in wanted_files(folder, weights):
        size = path.stat().st_size
        whole.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as file:
            for start in _starts(size):
                file.seek(start)
                whole.update(file.read(BLOCK))
    return whole.hexdigest()[:16]


def _starts(size: int) -> list[int]:
    """Where blocks begin: all of a file of up to `N_BLOCKS` blocks, else that many, the first and last byte in them."""
    if size <= N_BLOCKS * BLOCK:
        return list(range(0, size, BLOCK))
    return [i * (size - BLOCK) // (N_BLOCKS - 1) for i in range(N_BLOCKS)]
