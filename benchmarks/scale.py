"""What planning large studies costs, and what each job's own start costs in them: python -m benchmarks.scale.

A study of models of the hub in made-up languages is planned (`--dry-run`) in a copy of the repository: nothing is run,
downloaded or loaded. Where a study is taken as partly done, its files are empty.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from time import perf_counter

import yaml

from benchmarks.commands import say_errors
from knatlas.errors import AtlasError, unknown
from knatlas.storage import write_json

ROOT = Path(__file__).resolve().parents[1]
FILE = Path("results/benchmarks/scale.json")
LEFT_OUT = shutil.ignore_patterns(".*", "results", "data", "__pycache__", "tests")
# attribution jobs of a study: its models, languages and shards
SIZES = {1_000: (2, 10, 50), 5_000: (5, 10, 100), 50_000: (10, 50, 100)}
ENDINGS = ("safetensors", "queries.parquet")
FACT_TABLES = ("facts.parquet", "templates.parquet", "prompts.parquet")
FACT_STEPS = ("cleaning.csv", "prompt_steps.csv", "prompt_modes.csv")
# how an executor of a cluster starts Snakemake for one job
ONE_JOB = (
    *("--target-jobs", "attribute_shard:model=model-0,language=en,shard=0", "--allowed-rules", "attribute_shard"),
    *("--force", "--nolock", "--notemp", "--ignore-incomplete", "--target-files-omit-workdir-adjustment"),
    *("--attempt", "1", "--max-inventory-time", "0"),
)
BATCHES = 10
# options that may make planning cheaper
OPTIONS = {
    "mtime": ("--rerun-triggers", "mtime"),
    "no inventory": ("--max-inventory-time", "0"),
    "ignore incomplete": ("--ignore-incomplete",),
    "until": ("--until", "attribute_shard"),
}


@dataclass(frozen=True)
class Study:
    """A study to plan: models x languages x shards attribution jobs, of which the share `done` is there."""

    models: int
    languages: int
    shards: int
    done: float = 0.0
    keep_shards: bool = True

    @property
    def name(self) -> str:
        """A name that no other study here has."""
        kept = "kept" if self.keep_shards else "temporary"
        return f"scale-{self.models}-{self.languages}-{self.shards}-{round(self.done * self.jobs)}-{kept}"

    @property
    def jobs(self) -> int:
        """Attribution jobs."""
        return self.models * self.languages * self.shards


@dataclass(frozen=True)
class Case:
    """A study, the arguments of Snakemake after --dry-run, and the attribution jobs that it must plan."""

    study: Study
    arguments: tuple[str, ...]
    planned: int


def cases() -> dict[str, Case]:
    """Every case by name."""
    found = {}
    for jobs, (models, languages, shards) in SIZES.items():
        study = Study(models, languages, shards)
        half = replace(study, done=0.5)
        found[f"{jobs} all"] = Case(study, ("--", "all"), jobs)
        found[f"{jobs} attribution"] = Case(study, ("--", "attribution"), jobs)
        found[f"{jobs} one-job"] = Case(replace(study, done=1 / jobs), ONE_JOB, 1)
        found[f"{jobs} half-done"] = Case(half, ("--", "all"), jobs // 2)
    half = Study(*SIZES[5_000], done=0.5)
    for name, arguments in OPTIONS.items():
        found[f"5000 half-done {name}"] = Case(half, (*arguments, "--", "all"), 2_500)
    for jobs in (5_000, 50_000):
        study = Study(*SIZES[jobs])
        asked = jobs + study.models  # the inputs that are dealt out: shards, and the models' scores
        found[f"{jobs} batch"] = Case(study, _batch("attribution", "attribution"), ceil(asked / BATCHES))
        study = replace(study, keep_shards=False)
        found[f"{jobs} temporary"] = Case(study, ("--", "all"), jobs)
        found[f"{jobs} temporary batch"] = Case(study, _batch("aggregate_scores", "all"), jobs // BATCHES)
    return found


def _batch(rule: str, target: str) -> tuple[str, ...]:
    """The arguments for the first of `BATCHES` parts of a rule's inputs."""
    return "--batch", f"{rule}=1/{BATCHES}", "--", target


def copy_repository(folder: Path, languages: int) -> None:
    """Copy what Snakemake reads, with made-up languages in the catalog where it has fewer than asked for."""
    shutil.copytree(ROOT, folder, ignore=LEFT_OUT, dirs_exist_ok=True)
    path = folder / "catalog" / "languages.yaml"
    rows = yaml.safe_load(path.read_text(encoding="utf-8"))
    made_up = {f"x{i:02d}": {**rows["en"], "name": f"Language {i}"} for i in range(languages - len(rows))}
    if made_up:
        path.write_text(path.read_text(encoding="utf-8") + yaml.safe_dump(made_up), encoding="utf-8")


def write_study(study: Study, folder: Path) -> Path:
    """Write the configuration of a study and the share of it that is done; returns the configuration's path."""
    languages = list(yaml.safe_load((folder / "catalog" / "languages.yaml").read_text(encoding="utf-8")))
    record = {"origin": "hub", "id": "owner/name", "kind": "causal", "parameters_millions": 1000, "neurons": 200_000}
    models = {f"model-{i}": record for i in range(study.models)}
    config = {
        "study": study.name,
        "languages": languages[: study.languages],
        "models": list(models),
        "additional_models": models,
        "facts": {"source": "mpararel"},
        "attribution": {"keep": "all", "shards": study.shards, "keep_shards": study.keep_shards},
        "compute": {"device": "cuda", "gpus": 1},
    }
    path = folder / "studies" / f"{study.name}.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    if study.done and not (folder / "results" / study.name).exists():
        _mark_as_made(_write_stubs(study, config, folder), path, folder)
    return path


def _write_stubs(study: Study, config: dict, folder: Path) -> list[tuple[str, str, int]]:
    """Empty files up to the share of shards that is done, oldest first; the model, language, number of these shards."""
    results, names = Path("results") / study.name, config["models"]
    before = [
        Path("data/mpararel/.snakemake_timestamp"),
        *(results / "facts" / name for name in FACT_TABLES + FACT_STEPS),
    ]
    before += [results / "models" / name / "source.json" for name in names]
    before += [results / part / f"{name}.parquet" for part in ("known", "localisation") for name in names]
    cut = [(name, language, s) for name in names for language in config["languages"] for s in range(study.shards)]
    cut = cut[: round(study.done * study.jobs)]
    shards = [results / "attribution" / name / language / f"{s}.{e}" for name, language, s in cut for e in ENDINGS]
    for path in [*before, *shards]:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()
    return cut


def _mark_as_made(shards: Sequence[tuple[str, str, int]], study: Path, folder: Path) -> None:
    """Let Snakemake keep of each shard what it keeps after a run.

    It marks the first shard itself (`--touch`, which takes hours for all); its records are written again for the others
    with their own names. `measure` notices when Snakemake does not find them, or finds other settings in them.
    """
    model, language, number = shards[0]
    results, kept = Path("results") / study.stem, folder / ".snakemake" / "metadata"
    of_first = [str(results / "attribution" / model / language / f"{number}.{ending}") for ending in ENDINGS]
    _snakemake(study, ["--touch", "--force", "--cores", "1", "--", of_first[0]], folder)
    for ending, path in zip(ENDINGS, of_first, strict=True):
        text = (kept / _record_name(path)).read_text(encoding="utf-8")
        for other_model, other_language, other in shards[1:]:
            own = text.replace(f"{model}.{language}.{number}.log", f"{other_model}.{other_language}.{other}.log")
            own = own.replace(model, other_model).replace(f"['{language}']", f"['{other_language}']")
            path = str(results / "attribution" / other_model / other_language / f"{other}.{ending}")
            (kept / _record_name(path)).write_text(own, encoding="utf-8")


def _record_name(path: str) -> str:
    """The name under which Snakemake keeps what it knows of an output (short enough for one file name)."""
    return urlsafe_b64encode(path.encode()).decode()


def _snakemake(study: Path, arguments: Sequence[str], folder: Path) -> tuple[str, dict]:
    """Run Snakemake; its output, and what it used: seconds, processor seconds, peak MB. Raises: AtlasError."""
    command = [sys.executable, "-m", "snakemake", "--configfile", str(study), *arguments]
    command[5:5] = ["--cores", "1"] if "--cores" not in arguments else []
    written, start = folder / "output.txt", perf_counter()
    with written.open("w") as output:
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=subprocess.STDOUT, env=_environment())
        _, status, used = os.wait4(process.pid, 0)
    text, seconds = written.read_text(errors="replace"), perf_counter() - start
    if status:
        raise AtlasError(f"{' '.join(command)} failed; its last lines:\n{text[-2000:]}")
    processor = used.ru_utime + used.ru_stime
    return text, {"seconds": seconds, "processor_seconds": processor, "peak_mb": used.ru_maxrss / 1024}


def _environment() -> dict[str, str]:
    """The variables of this process; no hub, and no library but the copy's."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"HF_HUB_OFFLINE": "1"}


def measure(name: str, folder: Path) -> dict[str, object]:
    """One case: seconds, processor seconds, peak memory (MB) and attribution jobs. Raises: AtlasError.

    Snakemake must plan the jobs that the case says, and know of every shard that is there how it was made.
    """
    case = cases()[name]
    text, used = _snakemake(write_study(case.study, folder), ["--dry-run", *case.arguments], folder)
    found = re.search(r"^attribute_shard +(\d+)$", text, flags=re.MULTILINE)
    planned = int(found.group(1)) if found else 0
    if planned != case.planned:
        raise AtlasError(f"{name}: {planned} attribution jobs are planned; expected {case.planned}")
    if re.search(r"^Rules with missing metadata:.*attribute_shard", text, flags=re.MULTILINE):
        raise AtlasError(f"{name}: Snakemake has no records of shards that are there")
    return {"case": name, **used, "attribution_jobs": planned}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", default=list(cases()), help=f"of: {', '.join(cases())}")
    chosen = parser.parse_args().cases
    for name in chosen:
        if name not in cases():
            raise AtlasError(unknown("The case of the scale benchmark", name, "one of", cases()))
    with tempfile.TemporaryDirectory() as folder:
        copy_repository(Path(folder), max(languages for _, languages, _ in SIZES.values()))
        rows = []
        for name in chosen:
            rows.append(measure(name, Path(folder)))
            print(rows[-1], flush=True)
    if chosen == list(cases()):
        # here, since it brings PyTorch: a child's peak counts what its parent held at the fork
        from benchmarks.machine import describe

        write_json({"machine": describe(1), "rows": rows}, FILE)


if __name__ == "__main__":
    say_errors(main)
