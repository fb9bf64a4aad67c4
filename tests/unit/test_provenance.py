"""Digests of code: what a script imports counts, comments don't."""

from pathlib import Path

import pytest

from knatlas.provenance import (
    _direct_imports,
    _tree_digest,
    catalog_digest,
    code_digest,
    digest,
    file_digest,
    imported_modules,
    run_record,
)

MODULE = '"""Docstring."""\n\n\ndef half(x):\n    """Half."""\n    return x / 2\n'


@pytest.fixture
def project(tmp_path) -> Path:
    files = {
        "knatlas/__init__.py": "",
        "knatlas/room/__init__.py": "",
        "knatlas/room/used.py": "from knatlas.other import deep\n" + MODULE,
        "knatlas/room/unused.py": MODULE,
        "knatlas/other.py": "deep = 1\n",
        "scripts/s.py": "from knatlas.room.used import half\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def digest_after(project: Path, name: str, text: str) -> str:
    (project / name).write_text(text)
    _tree_digest.cache_clear()
    _direct_imports.cache_clear()
    return code_digest("scripts/s.py", project)


def test_imports_are_followed_through_modules(project):
    found = {str(path.relative_to(project)) for path in imported_modules(project / "scripts/s.py", project)}
    assert found == {"knatlas/__init__.py", "knatlas/room/__init__.py", "knatlas/room/used.py", "knatlas/other.py"}


def test_a_change_of_an_imported_module_changes_the_digest(project):
    before = code_digest("scripts/s.py", project)
    assert digest_after(project, "knatlas/other.py", "deep = 2\n") != before


def test_comments_docstrings_and_layout_do_not_count(project):
    before = code_digest("scripts/s.py", project)
    text = "# why\nfrom knatlas.other import deep\n" + MODULE.replace("Half.", "One half.").replace("x / 2", "x  /  2")
    assert digest_after(project, "knatlas/room/used.py", text) == before


def test_modules_that_are_not_imported_do_not_count(project):
    before = code_digest("scripts/s.py", project)
    assert digest_after(project, "knatlas/room/unused.py", "x = 1\n") == before


def test_the_digest_of_a_mapping_does_not_depend_on_its_order():
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1}) != digest({"a": 1, "b": 3})


def test_the_digest_of_a_folder_depends_on_names_and_bytes(tmp_path):
    (tmp_path / "a").write_text("1")
    before = file_digest(tmp_path)
    (tmp_path / "b").write_text("")
    assert file_digest(tmp_path) != before


def test_the_digest_of_a_folder_is_not_that_of_the_time_which_snakemake_notes_in_it(tmp_path):
    (tmp_path / "a").write_text("1")
    before = file_digest(tmp_path)
    (tmp_path / ".snakemake_timestamp").touch()
    assert file_digest(tmp_path) == before


def test_a_run_record_says_what_was_run_on_what(tmp_path):
    (tmp_path / "in").write_text("x")
    record = run_record({"in": file_digest(tmp_path / "in")}, {"tau": 0.3}, 1.5)
    assert record["settings"] == {"tau": 0.3} and record["seconds"] == 1.5
    assert record["inputs"] == {"in": "2d711642b726b044"}
    assert record["packages"]["numpy"] and record["peak_memory_mb"] > 10


CATALOG = {
    "languages.yaml": "en: {cue: Answer}\nfi: {cue: Vastaus}\n",
    "templates/en.yaml": "P36:\n  - one\nP37:\n  - two\n",
    "templates/fi.yaml": "P36:\n  - yksi\nP37:\n  - kaksi\n",
}


@pytest.fixture
def catalog(tmp_path) -> Path:
    for name, text in CATALOG.items():
        path = tmp_path / "catalog" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def english(catalog: Path) -> str:
    """What a study in English alone, of P36 alone, reads."""
    rows = {"languages.yaml": ["en"], "templates/en.yaml": ["P36"]}
    return catalog_digest("languages.yaml", "templates/en.yaml", rows=rows, root=catalog)


def changed(catalog: Path, name: str, old: str, new: str) -> Path:
    path = catalog / "catalog" / name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    return catalog


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("languages.yaml", "fi: {cue: Vastaus}", "fi: {cue: Siis}\nsv: {cue: Svar}"),
        ("languages.yaml", "en: {cue: Answer}", '# a comment\nen:\n  cue: "Answer"  # another'),
        ("templates/fi.yaml", "yksi", "toinen"),
        ("templates/en.yaml", "two", "three"),
        ("templates/en.yaml", "P37:", "P38:\n  - three\nP37:"),
    ],
    ids=["another language", "comments", "another language's templates", "another relation", "one more relation"],
)
def test_of_the_catalog_only_what_a_study_reads_counts(catalog, name, old, new):
    before = english(catalog)
    assert english(changed(catalog, name, old, new)) == before


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [("languages.yaml", "Answer", "Solution"), ("templates/en.yaml", "one", "first")],
)
def test_a_row_that_a_study_reads_counts(catalog, name, old, new):
    before = english(catalog)
    assert english(changed(catalog, name, old, new)) != before


def test_a_folder_of_the_catalog_counts_with_all_its_files_and_their_names(catalog):
    before = catalog_digest("templates", root=catalog)
    changed(catalog, "templates/fi.yaml", "yksi", "toinen")
    edited = catalog_digest("templates", root=catalog)
    (catalog / "catalog" / "templates" / "fi.yaml").rename(catalog / "catalog" / "templates" / "et.yaml")
    assert len({before, edited, catalog_digest("templates", root=catalog)}) == 3


def test_a_file_that_is_missing_or_no_yaml_has_a_digest_too_for_the_job_that_reads_it_says_so(catalog):
    whole = english(catalog)
    changed(catalog, "templates/en.yaml", "P36:", "P36")
    broken = english(catalog)
    (catalog / "catalog" / "templates" / "en.yaml").unlink()
    assert len({whole, broken, english(catalog)}) == 3
