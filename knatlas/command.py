"""The command that makes a file again: the user's own Snakemake command, with this file in place of its targets."""

import os
import re
import shlex
from collections.abc import Iterable, Iterator, MutableMapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VARIABLE = "KNATLAS_COMMAND_OPTIONS"
# options that say which study is run and where; the others change what a run shows or how far it goes
WITH_ONE_VALUE = {"--cores", "-c", "--jobs", "-j", "--profile", "--directory", "-d", "--snakefile", "-s"}
WITH_VALUES = {"--configfile", "--configfiles", "--config", "-C"}


def remember_command(arguments: Sequence[str], environment: MutableMapping[str, str]) -> None:
    """Keep the options of the Snakemake process that a user started, for the jobs that inherit its environment.

    Args: arguments, as in sys.argv; those of the processes that Snakemake starts for its jobs are left out.
    """
    is_snakemake = bool(arguments) and "snakemake" in Path(arguments[0]).parts[-2:]
    if is_snakemake and "--mode" not in arguments and VARIABLE not in environment:
        environment[VARIABLE] = shlex.join(_study_options(arguments[1:]))


def making_again(paths: Iterable[str | Path]) -> str:
    """The command that makes these files again and nothing else.

    `--force` makes a file that is there already, and one that the rules would have removed after use.
    """
    names = [str(path) for path in paths]
    options = os.environ.get(VARIABLE)
    if options is None:
        options = shlex.join(["--cores", "2", *_configuration_of(names)])
    elif not any(word.startswith(("--cores", "-c", "--jobs", "-j", "--profile")) for word in shlex.split(options)):
        options = f"--cores 2 {options}".rstrip()
    return f"snakemake {options} --force -- {shlex.join(names)}"


def _study_options(arguments: Sequence[str]) -> Iterator[str]:
    """Those of the arguments that say which study is run, with their values; no targets."""
    n_values = 0.0
    for word in arguments:
        if word == "--":
            return
        if word.startswith("-"):
            name, _, value = word.partition("=")
            is_short = len(word) > 2 and word[1] != "-" and word[:2] in WITH_ONE_VALUE
            n_values = 0.0 if value else float("inf") if name in WITH_VALUES else float(name in WITH_ONE_VALUE)
            if name in WITH_VALUES | WITH_ONE_VALUE or is_short:
                yield word
        elif n_values:
            n_values -= 1
            yield word


def _configuration_of(paths: Sequence[str]) -> list[str]:
    """The option that names the configuration of the study in whose folder the first path lies."""
    study = re.search(r"(?:^|/)results/([^/]+)/", paths[0])
    if study is None:
        return []
    named = re.compile(rf"^study: *['\"]?{re.escape(study.group(1))}['\"]? *(#.*)?$", re.MULTILINE)
    known = ["config.yaml", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "studies").glob("*.yaml"))]
    found = [name for name in known if (ROOT / name).is_file() and named.search((ROOT / name).read_text("utf-8"))]
    if "config.yaml" in found:
        return []
    return ["--configfile", *(found[:1] or [f"the-configuration-of-{study.group(1)}.yaml"])]
