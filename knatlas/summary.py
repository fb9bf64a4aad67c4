"""Where the results of a study are, and its headline sentences: python -m knatlas.summary results/embedded."""

import sys
from pathlib import Path

from knatlas.errors import AtlasError
from knatlas.storage import read_csv
from knatlas.verification import checked_digests


def summary(results: Path) -> str:
    """Folders and headlines of a finished study; AtlasError when its headline table is not there, or torn."""
    table = results / "tables" / "headlines.csv"
    checked_digests([table])
    headlines = read_csv(table)
    places = {"read": results / "index.html", "report": results / "report.html"}
    places |= {"tables": results / "tables", "figures": results / "figures"}
    lines = [f"{name:8} {place}" for name, place in places.items()]
    return "\n".join([*lines, "", *(f"  * {sentence}" for sentence in headlines["sentence"])])


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m knatlas.summary results/STUDY")
    try:
        print(summary(Path(sys.argv[1])))
    except AtlasError as error:
        sys.exit(str(error))
