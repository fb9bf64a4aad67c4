"""Finished files cut off or changed by one bit, with a time of change that hides it: the next reader finds them."""

import os
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.workflow.conftest import planned_jobs

from .copies import Copy, Run
from .outcome import Outcome, judge_end


def cut_off(path: Path) -> None:
    """Cut a file off after three quarters of its bytes."""
    os.truncate(path, path.stat().st_size * 3 // 4)


def flip_bit(path: Path) -> None:
    """Change the lowest bit of the byte in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@dataclass(frozen=True)
class Wound:
    """A file below the folder of the study, what is done to it, and the rule that reads it next."""

    kind: str
    file: str
    tear: Callable[[Path], None]
    reader: str


WOUNDS = [
    Wound("parquet", "facts/prompts.parquet", cut_off, "measure_known"),
    Wound("parquet", "known/{model}.parquet", flip_bit, "summarise_known"),
    Wound("safetensors", "scores/{model}.safetensors", cut_off, "select_neurons"),
    Wound("safetensors", "attribution/{model}/en/0.safetensors", flip_bit, "aggregate_scores"),
    Wound("csv", "models/{model}/gates.csv", cut_off, "tabulate_gates"),
    Wound("csv", "facts/cleaning.csv", flip_bit, "tabulate_facts"),
    Wound("model folder", "models/{model}/weights/model.safetensors", cut_off, "measure_known"),
    Wound("model folder", "models/{model}/weights/model.safetensors", flip_bit, "measure_known"),
    Wound("json", "models/{model}/source.json", cut_off, "measure_known"),
    Wound("json", "models/{model}/source.json", flip_bit, "measure_known"),
]


def tear_and_mend(copy: Copy, wound: Wound, expected: dict[str, str]) -> Outcome:
    """Tear a file of a finished study, force its reader, type the command that the sentence names, then the usual one.

    Args: copy, a finished study; expected, digests of its results.
    """
    model = next((copy.results / "models").iterdir()).name
    path = copy.results / wound.file.format(model=model)
    how = "cut off" if wound.tear is cut_off else "one bit changed"
    outcome = Outcome("torn", None, f"{wound.kind}, {how}: {wound.file.format(model=model)}", n_finished=len(expected))
    tear_unseen(path, wound.tear)
    reader = copy.start("--forcerun", wound.reader)
    outcome.require(reader.wait() != 0, "the reader did not stop")
    outcome.require(recorded(path, copy) in reader.text, f"no sentence names the file:\n{reader.text[-3000:]}")
    outcome.require("Traceback" not in reader.text, f"a traceback:\n{reader.text[-3000:]}")
    command = printed_command(reader.text)
    outcome.require(bool(command), f"no sentence names a command:\n{reader.text[-3000:]}")
    if command:
        go_on(outcome, copy.start_snakemake(command))
    go_on(outcome, copy.start())
    judge_end(outcome, copy, expected)
    return outcome


def go_on(outcome: Outcome, run: Run) -> None:
    """Wait for a run that must succeed, and count its jobs."""
    outcome.require(run.wait() == 0, f"a command failed afterwards:\n{run.text[-3000:]}")
    if "Job stats" in run.text:
        outcome.jobs += planned_jobs(run.text)


def tear_unseen(path: Path, tear: Callable[[Path], None]) -> None:
    """Change a file and leave its time of change, so that Snakemake takes it for the same."""
    times = path.stat()
    tear(path)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def recorded(path: Path, copy: Copy) -> str:
    """The output, as rules name it, to which a file belongs: itself, or its model's folder."""
    output = path.parent if path.parent.name == "weights" else path
    return str(output.relative_to(copy.folder))


def printed_command(text: str) -> list[str]:
    """The arguments of the Snakemake command that a sentence names; empty when it names none.

    >>> printed_command("x was cut off. Make it again: snakemake --cores 2 --force -- x ; or delete y")
    ['--cores', '2', '--force', '--', 'x']
    """
    found = re.search(r"Make (?:it|both) again: snakemake (--[^;\n]+)", text)
    return shlex.split(found.group(1)) if found else []
