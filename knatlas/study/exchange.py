"""Mistakes in the part `exchange` of a study: names, models and files of imported sets, and the pairs compared."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from knatlas.errors import unknown
from knatlas.study.experiments import known_selections

# names of files that lie beside the sets of a model
TAKEN = ("summary",)


def exchange_mistakes(study: Mapping, root: Path) -> Iterator[str]:
    """A sentence per mistake. Args: root, the folder that paths start from."""
    imports = study["exchange"]["imports"]
    for name, record in imports.items():
        yield from _import_mistakes(f"exchange.imports.{name}", name, record, study, root)
    # a selection that this study leaves out has no set to compare, and its pairs are left out too
    names = [*known_selections(), *imports]
    for i, pair in enumerate(study["exchange"]["compare"]):
        where = f"exchange.compare[{i}]"
        wrong = [name for name in pair if name not in names]
        yield from (unknown(where, name, "a selection or an imported set", names) for name in wrong)
        models = {imports[name]["model"] for name in pair if name in imports}
        if len(models) > 1:
            yield f"{where}: {' and '.join(pair)} are of different models ({' '.join(sorted(models))}); compare one's"


def _import_mistakes(where: str, name: str, record: Mapping, study: Mapping, root: Path) -> Iterator[str]:
    if name in (*known_selections(), *TAKEN):
        yield f"{where}: {name} is the name of a selection or of a file of the workflow; give the set another"
    if record["model"] not in study["models"]:
        yield unknown(f"{where}.model", record["model"], "a model of the study", study["models"])
    for key in ("path", "mapping"):
        if record[key] is not None and not (root / record[key]).exists():
            yield f"{where}.{key}: {record[key]} is not there; expected the file (or, for path, a folder of such files)"
    if record["format"] == "amig" and len(record["languages"] or []) != 1:
        yield (
            f"{where}.languages: files of AMIG's code don't say in which language their neurons were found; name it, "
            "as [en], or [all] for neurons of all languages"
        )
