"""What of a study a plan takes from its results. Read by every start of the workflow, so it imports next to nothing."""

from collections.abc import Mapping
from pathlib import Path


def known_files(study: Mapping, results: Path) -> list[list]:
    """Files of the study that its plan reads where they are there, with their sizes: a plan is old when they change."""
    names = ["facts/prompts.parquet"]
    for model in study["models"]:
        names += [f"models/{model}/source.json", f"localisation/{model}.parquet", f"scores/{model}.queries.parquet"]
    return [[name, (results / name).stat().st_size] for name in names if (results / name).is_file()]
