"""A folder with results in it, in which Snakemake's entry point and single scripts run, and must refuse."""

import contextlib
import io
import os
import runpy
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import yaml
from snakemake.cli import main

from knatlas import catalog
from knatlas.facts import sources
from knatlas.provenance import file_digest
from knatlas.storage import write_json, write_table

SMOKE = "studies/smoke.yaml"


class Files(list):
    """Inputs or outputs of a rule: a list, with names."""

    def __init__(self, files: Mapping[str, object]):
        super().__init__(files.values())
        self.__dict__.update(files)


class Values(dict):
    """Wildcards, parameters or resources of a rule: a mapping, with names."""

    def __getattr__(self, name: str) -> object:
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(name) from error


class Place:
    """A working folder beside the repository's rules and scripts, with a study's results that must outlive mistakes."""

    def __init__(self, root: Path, folder: Path):
        self.root, self.folder = root, folder
        self.study = yaml.safe_load((root / SMOKE).read_text(encoding="utf-8"))
        self.log = folder / "job.log"

    def write(self, content: str | bytes | Mapping, name: str = "study.yaml") -> str:
        """A file of the folder: text, bytes, or a mapping as YAML; returns its name."""
        raw = yaml.safe_dump(content) if isinstance(content, Mapping) else content
        (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / name).write_bytes(raw if isinstance(raw, bytes) else raw.encode())
        return name

    def changed(self, changes: Mapping[str, object]) -> dict:
        """The smoke study with other values at dotted paths."""
        study = yaml.safe_load(yaml.safe_dump(self.study))
        for path, value in changes.items():
            *parents, key = path.split(".")
            place = study
            for parent in parents:
                place = place.setdefault(parent, {})
            place[key] = value
        return study

    def snakemake(self, *arguments: str, configfile: str | None = None) -> tuple[object, str]:
        """Exit code and terminal of `snakemake ARGUMENTS` in the folder, by Snakemake's own entry point."""
        command = [*arguments, *(["--configfile", configfile] if configfile else [])]
        command = ["--snakefile", str(self.root / "Snakefile"), *command]
        sys.argv[:] = ["snakemake", *command]
        return self._ended(lambda: main(command))

    def script(self, name: str, **given: Mapping[str, object]) -> tuple[object, str]:
        """Exit code and terminal of a rule's script, run as Snakemake runs it; input, output, params, ... are given."""
        defaults = {"wildcards": {}, "params": {}, "resources": {"device": "cpu", "batch_rows": 8}}
        values = {kind: Values({**default, **given.get(kind, {})}) for kind, default in defaults.items()}
        files = {kind: Files({k: self._path(v) for k, v in given[kind].items()}) for kind in ("input", "output")}
        job = SimpleNamespace(rule=name, threads=1, log=[str(self.log)], **values, **files)
        path = str(self.root / "scripts" / f"{name}.py")
        return self._ended(lambda: runpy.run_path(path, init_globals={"snakemake": job}))

    def _path(self, value: object) -> object:
        return [str(path) for path in value] if isinstance(value, list) else str(value)

    def _ended(self, run: object) -> tuple[object, str]:
        shown, code = io.StringIO(), 0
        with contextlib.redirect_stderr(shown), contextlib.redirect_stdout(shown):
            try:
                run()
            except SystemExit as end:
                code = end.code
        return code, shown.getvalue()

    def results(self) -> dict[str, tuple[str, int]]:
        """Digest and time of everything that is computed."""
        files = sorted(
            path for path in (self.folder / "results").rglob("*") if path.is_file() and "logs" not in path.parts
        )
        return {str(path): (file_digest(path), path.stat().st_mtime_ns) for path in files}

    def refuses(self, sentence: str, ended: tuple[object, str], is_job: bool = False) -> str:
        """Assert what every mistake must come to; returns what the terminal showed."""
        code, shown = ended
        assert code not in (0, None), shown[-2000:]
        assert sentence in shown, shown[-2000:]
        assert "Traceback" not in shown, shown[-4000:]
        assert self.results() == self.before
        if is_job:
            assert "Traceback" in self.log.read_text(encoding="utf-8") and f"details: {self.log}" in shown
        return shown

    def keep(self) -> None:
        """Note what is computed, before something goes wrong."""
        self.before = self.results()


@pytest.fixture
def place(root, tmp_path, monkeypatch) -> Iterator[Place]:
    """A folder with some computed files of the smoke study; the process is as it was afterwards."""
    place = Place(root, tmp_path)
    for name in ("known/smoke-gpt2", "neurons/smoke-gpt2/matrice"):
        path = tmp_path / "results" / "smoke" / f"{name}.parquet"
        write_table(pd.DataFrame({"fact": ["P36:FR>Paris"]}), path)
        write_json({"rule": "some"}, f"{path}.provenance.json")
    place.keep()
    environment, path, arguments = dict(os.environ), list(sys.path), list(sys.argv)
    monkeypatch.chdir(tmp_path)
    yield place
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:], sys.argv[:] = path, arguments


@pytest.fixture
def own_catalog(root, tmp_path, monkeypatch) -> Path:
    """A copy of the catalog that a test may break, in place of the repository's."""
    folder = Path(shutil.copytree(root / "catalog", tmp_path / "catalog"))
    monkeypatch.setattr(catalog, "FOLDER", folder)
    monkeypatch.setattr(sources, "FOLDER", folder)
    return folder
