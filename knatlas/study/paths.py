"""Names of a study that become names of files, paths that are read, and what must stand in neither of them.

Results are written below results/{study}/ alone: every name in their paths is checked here, wherever it comes from (the
study or the catalog). Paths that are only read may lead anywhere.
"""

import re
from collections.abc import Iterator, Mapping

from knatlas.redaction import redacted

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
LONGEST_NAME = 64  # characters: with what is added to it, a name of a file has at most 255
LONGEST_PART, LONGEST_PATH = 255, 4095  # bytes that file systems allow
# braces and angle brackets are slots of Snakemake's patterns
UNREADABLE = re.compile(r"[{}<>\x00-\x1f\x7f]")
READ = ("facts.folder", "experiments.punctuation.corpus", "experiments.causal_tracing.source")
READ += ("experiments.counterfact.source", "experiments.rome.key_text.corpus")


def path_mistakes(study: Mapping) -> Iterator[str]:
    """A sentence per name or path of a study (with all defaults) that can't be one, and per secret in it."""
    names = {"study": study["study"]}
    for part, listed in (("models", study["models"]), ("languages", study["languages"])):
        names |= {f"{part}[{i}]": name for i, name in enumerate(listed)}
    names |= {f"selection.selections[{i}]": name for i, name in enumerate(study["selection"]["selections"])}
    names |= {f"additional_models: the name {name[:80]!r}": name for name in study["additional_models"]}
    names |= {f"exchange.imports: the name {name[:80]!r}": name for name in study["exchange"]["imports"]}
    for where, name in names.items():
        yield from _name_mistakes(where, name)
    for where, path in _read_paths(study):
        yield from _read_mistakes(where, path)
    yield from _secret_mistakes("", study)


def _name_mistakes(where: str, name: str) -> Iterator[str]:
    use = "it is part of the paths of results"
    if not NAME.fullmatch(name):
        yield (
            f"{where}: is {name[:80]!r}; expected letters from a to z, digits, . _ and -, with a letter or digit "
            f"first: {use}"
        )
    elif len(name) > LONGEST_NAME:
        yield f"{where}: has {len(name)} characters; expected at most {LONGEST_NAME}: {use}"


def _read_paths(study: Mapping) -> Iterator[tuple[str, str]]:
    """Where in the study a path stands that is read, and the path."""
    for key in READ:
        value = study
        for part in key.split("."):
            value = value[part]
        if value is not None:
            yield key, value
    for name, record in study["additional_models"].items():
        if "folder" in record:
            yield f"additional_models.{name}.folder", record["folder"]
    for name, record in study["exchange"]["imports"].items():
        yield from ((f"exchange.imports.{name}.{key}", record[key]) for key in ("path", "mapping") if record[key])


def _read_mistakes(where: str, path: str) -> Iterator[str]:
    found = UNREADABLE.search(path)
    n_bytes = [len(part.encode(errors="replace")) for part in path.split("/")]
    if found:
        yield f"{where}: is {path!r}; paths can't hold {found[0]!r}, which the workflow can't pass on. Rename it"
    elif max(n_bytes) > LONGEST_PART or sum(n_bytes) + len(n_bytes) - 1 > LONGEST_PATH:
        yield (
            f"{where}: is {path[:40]!r}... and longer than a path can be ({LONGEST_PATH} bytes, of a name "
            f"{LONGEST_PART}); give a shorter one"
        )


def _secret_mistakes(where: str, value: object) -> Iterator[str]:
    """Texts of a study that look like a token or hold a password: studies are copied into records and reports."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _secret_mistakes(f"{where}.{key}".lstrip("."), part)
    elif isinstance(value, list):
        for i, part in enumerate(value):
            yield from _secret_mistakes(f"{where}[{i}]", part)
    elif isinstance(value, str) and redacted(value) != value:
        yield (
            f"{where}: is {redacted(value)!r}, where *** is a token or a password; a study is copied into records and "
            "reports. Take it out; a token is read from the environment variable HF_TOKEN"
        )
