"""Mistakes in the files of data sets: the job that reads them stops, and says which file, which line and what to do."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

Break = Callable[[Path], object]
NEEDED = {
    "mpararel": ["mpararel"],
    "multilingual_pararel": ["multilingual_pararel", "pararel", "mpararel"],
    "context_pararel": ["context_pararel"],
}
TUPLES, PATTERNS, ENTRIES = (
    "mpararel/tuples/en/P36.jsonl",
    "mpararel/patterns/en/P36.jsonl",
    "multilingual_pararel/en.json",
)
VOCABULARY, GRAPHS = "context_pararel/trex_lms_vocab/P36.jsonl", "context_pararel/graphs_json/P36.jsonl"


def text(name: str, change: Callable[[str], str]) -> Break:
    """A change of the text of a file."""
    return lambda folder: (folder / name).write_text(
        change((folder / name).read_text(encoding="utf-8")), encoding="utf-8"
    )


def lines(name: str, change: Callable[[list[dict]], object]) -> Break:
    """A change of the objects of a file with one per line."""

    def changed(content: str) -> str:
        rows = [json.loads(line) for line in content.splitlines() if line]
        change(rows)
        return "\n".join(json.dumps(row) for row in rows)

    return text(name, changed)


def entry(change: Callable[[dict], object]) -> Break:
    """A change of the first entry of the multilingual PARAREL."""

    def changed(content: str) -> str:
        entries = json.loads(content)
        change(entries[next(iter(entries))])
        return json.dumps(entries)

    return text(ENTRIES, changed)


# name, source, how its files are broken, the sentence
CASES = [
    ("no folder", "mpararel", lambda folder: shutil.rmtree(folder / "mpararel/tuples"), "mpararel/tuples is not there"),
    (
        "no language",
        "mpararel",
        lambda folder: shutil.rmtree(folder / "mpararel/tuples/fr"),
        "language asked for is 'fr'",
    ),
    ("not UTF-8", "mpararel", lambda f: (f / TUPLES).write_bytes("é".encode("latin-1")), "P36.jsonl is not UTF-8 text"),
    ("a folder as a file", "multilingual_pararel", lambda f: replaced_by_folder(f / ENTRIES), "en.json can't be read"),
    ("broken line", "mpararel", text(TUPLES, lambda t: "{broken\n" + t), "P36.jsonl, line 1 is not JSON ("),
    ("cut off", "mpararel", text(TUPLES, lambda t: t.rstrip()[:-9]), "is not JSON (Unterminated string"),
    (
        "list in a line",
        "mpararel",
        text(TUPLES, lambda t: "[1, 2]\n" + t),
        "line 1 holds [1, 2]; expected one JSON obj",
    ),
    ("no field", "mpararel", lines(TUPLES, lambda r: r[0].pop("sub_label")), "line 1 has no key 'sub_label'; its keys"),
    (
        "other type",
        "mpararel",
        lines(TUPLES, lambda r: r[0].update(obj_uri=2)),
        "line 1: 'obj_uri' is 2; expected a text",
    ),
    (
        "empty text",
        "mpararel",
        lines(TUPLES, lambda r: r[0].update(sub_label=" ")),
        "expected a text that is not empty",
    ),
    ("fact twice", "mpararel", lines(TUPLES, lambda r: r.append(r[0])), "repeats the fact P36:"),
    (
        "no slot",
        "mpararel",
        lines(PATTERNS, lambda r: r[0].update(pattern="[X] has")),
        "has no [Y]; expected exactly one",
    ),
    (
        "nothing left",
        "mpararel",
        lambda f: [p.write_text("") for p in (f / TUPLES).parent.iterdir()],
        "no fact has labels",
    ),
    (
        "missing file",
        "multilingual_pararel",
        lambda f: (f / ENTRIES).unlink(),
        "en.json is not there; expected a file of",
    ),
    ("broken JSON", "multilingual_pararel", text(ENTRIES, lambda t: t[:40]), "en.json is not JSON ("),
    (
        "no field here",
        "multilingual_pararel",
        entry(lambda e: e.pop("obj_label")),
        "the entry u1 has no key 'obj_label'",
    ),
    (
        "type here",
        "multilingual_pararel",
        entry(lambda e: e.update(sentences={})),
        "'sentences' is {}; expected a list",
    ),
    ("uuid twice", "context_pararel", lines(VOCABULARY, lambda r: r.append(r[0])), "repeats the uuid"),
    (
        "no graphs",
        "context_pararel",
        lambda f: shutil.rmtree((f / GRAPHS).parent),
        "graphs_json is not there; expected",
    ),
]


@pytest.mark.parametrize(
    ("source", "broken", "sentence"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_a_file_with_a_mistake_stops_the_job_that_reads_it(place, source, broken, sentence):
    place.refuses(sentence, read_facts(place, source, broken), is_job=True)
    assert not (place.folder / "out").exists()


def test_a_byte_order_mark_and_the_line_ends_of_windows_are_no_mistake(place):
    def other_system(folder: Path) -> None:
        for path in folder.rglob("*.jsonl"):
            path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))

    code, shown = read_facts(place, "mpararel", other_system)
    assert code == 0, shown


def test_a_data_folder_without_the_data_set_is_named(place):
    (place.folder / "own").mkdir()
    study = place.changed({"facts": {"source": "mpararel", "folder": "own"}, "models": ["mbert"]})
    sentence = "facts.folder: 'own' has no folder mpararel in it; put the data set there"
    place.refuses(sentence, place.snakemake("-n", "data", configfile=place.write(study)))


def replaced_by_folder(path: Path) -> None:
    """Put a folder in the place of a file."""
    path.unlink()
    path.mkdir()


def read_facts(place, source: str, broken: Break) -> tuple[object, str]:
    """What the job says that reads a copy of the small data sets of the tests, broken before."""
    folder = Path(shutil.copytree(place.root / "tests" / "data", place.folder / "own"))
    broken(folder)
    settings = {"source": source, "relations": "all", "as_of": "2025-01-01", "exclude_marks": [], "chinese": "zh-hans"}
    settings |= {"facts_per_relation": None, "cap_answers": False}
    if source == "context_pararel":
        settings["relations"] = ["P36", "P19"]
    languages = ["en"] if source == "context_pararel" else ["en", "fr"]
    files = {name: place.folder / "out" / f"{name}.parquet" for name in ("facts", "templates")}
    files["steps"] = place.folder / "out" / "steps.csv"
    params = {"facts": settings, "languages": languages, "seed": 0}
    datasets = [folder / name for name in NEEDED[source]]
    return place.script("read_facts", input={"datasets": datasets}, output=files, params=params)
