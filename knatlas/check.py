"""Check the configuration of a study before anything runs, with the lines of what is not YAML:

python -m knatlas.check studies/own.yaml [further files, which change values of those before]
"""

import sys
from collections.abc import Sequence

from knatlas.errors import AtlasError
from knatlas.study import read_study
from knatlas.yaml_files import read_yaml


def check_study(files: Sequence[str]) -> dict:
    """The study of configuration files, later ones over earlier ones.

    Raises: AtlasError for a file that is not there, not YAML or no mapping, and for every mistake of the study.
    """
    config: dict = {}
    for path in files:
        config = _over(config, _read(path))
    return read_study(config, files=files)


def _read(path: str) -> dict:
    try:
        content = read_yaml(path)
    except OSError as error:
        raise AtlasError(f"{path} can't be read ({error.strerror}); give the path of a configuration file") from error
    if not isinstance(content, dict):
        kind = "is empty" if content is None else f"holds a {type(content).__name__}"
        raise AtlasError(f"{path} {kind}; expected keys such as study, languages, models (see config.yaml)")
    return content


def _over(below: dict, above: dict) -> dict:
    """Two mappings as one, `above` deciding, as Snakemake puts configuration files together."""
    both = {key: _over(below[key], above[key]) for key in above if _are_mappings(below.get(key), above[key])}
    return {**below, **above, **both}


def _are_mappings(*values: object) -> bool:
    return all(isinstance(value, dict) for value in values)


def main(files: Sequence[str]) -> int:
    """Print the study's name, or its mistakes; the exit code."""
    if not files:
        print("give the configuration file of a study: python -m knatlas.check studies/own.yaml", file=sys.stderr)
        return 2
    try:
        study = check_study(files)
    except AtlasError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{' '.join(files)}: no mistake found in the study '{study['study']}'")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
