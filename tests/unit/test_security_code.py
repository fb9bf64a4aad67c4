"""No code is made of data: in the library, the scripts, the rules, and the profiles, which Snakemake evaluates."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
import yte
from snakemake.parser import parse
from snakemake.sourcecache import infer_source_file
from yte.exceptions import YteError

from knatlas.errors import AtlasError
from knatlas.study import read_study
from knatlas.study.schema import read_schema
from tests.code_checks import dangers

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = [path for folder in ("knatlas", "scripts") for path in sorted((ROOT / folder).rglob("*.py"))]
RULES = [ROOT / "Snakefile", *sorted((ROOT / "rules").glob("*.smk"))]
SMOKE = yaml.safe_load((ROOT / "studies" / "smoke.yaml").read_text())


def python_of(rules: Path) -> str:
    """The Python that Snakemake makes of a file of rules."""
    with rules.open() as file:
        workflow = SimpleNamespace(sourcecache=SimpleNamespace(open=lambda source: file))
        return parse(infer_source_file(str(rules)), workflow, {})[0]


TREES = {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text()) for path in SCRIPTS}
RULE_TREES = {path.relative_to(ROOT).as_posix(): ast.parse(python_of(path)) for path in RULES}


def test_no_code_is_made_of_data():
    found = {name: list(dangers(tree)) for name, tree in (TREES | RULE_TREES).items()}
    assert len(found) > 200
    assert {name: listed for name, listed in found.items() if listed} == {}


@pytest.mark.parametrize(
    "code",
    [
        "eval(text)",
        "exec(text)",
        "import pickle",
        "from pickle import loads",
        "import os\nos.system(text)",
        "from os import popen",
        "subprocess.run(text, shell=True)",
        "subprocess.run(text, shell=is_shell)",
        "subprocess.getoutput(text)",
        "yaml.load(text, Loader=yaml.Loader)",
        "yaml.load(text)",
        "yaml.unsafe_load(text)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "numpy.load(path, allow_pickle=True)",
        "pandas.read_pickle(path)",
        "frame.query(text)",
        "frame.query(f'x == {text}')",
        "frame.eval(text)",
        "AutoModel.from_pretrained(path, trust_remote_code=True)",
        "__import__(name)",
        "importlib.import_module(name)",
        "shell('rm {input}')",
        "@workflow.shellcmd('rm {input}')\ndef f(): pass",
    ],
)
def test_the_check_finds_each_of_them(code):
    assert len(list(dangers(ast.parse(code)))) == 1


@pytest.mark.parametrize("code", ["model.eval()", "frame.query('x == @y')", "re.compile(text)", "yaml.safe_load(text)"])
def test_the_check_lets_harmless_code_pass(code):
    assert list(dangers(ast.parse(code))) == []


def test_rules_with_a_shell_command_are_found(tmp_path):
    (tmp_path / "x.smk").write_text('rule x:\n    output:\n        "y",\n    shell:\n        "touch {output}"\n')
    assert any("shell" in danger for danger in dangers(ast.parse(python_of(tmp_path / "x.smk"))))


def config_paths(node: ast.AST) -> Iterator[tuple[str, ...]]:
    """The keys of each `config["a"]["b"]` below a node."""
    inner = set()
    for part in ast.walk(node):
        keys = []
        while isinstance(part, ast.Subscript) and part not in inner:
            inner.add(part)
            keys.insert(0, part.slice.value if isinstance(part.slice, ast.Constant) else None)
            part = part.value
        if keys and isinstance(part, ast.Name) and part.id == "config":
            yield tuple(keys)


def calls(name: str) -> list[ast.Call]:
    """Calls of a method of the workflow or of a function, in all rules."""
    nodes = [node for tree in RULE_TREES.values() for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [node for node in nodes if getattr(node.func, "attr", getattr(node.func, "id", "")) == name]


def constants() -> dict[str, ast.AST]:
    """What stands for itself in rules: names and the expressions that they are given, outside of functions."""
    nodes = [node for tree in RULE_TREES.values() for node in tree.body if isinstance(node, ast.Assign)]
    return {target.id: node.value for node in nodes for target in node.targets if isinstance(target, ast.Name)}


def test_values_of_the_study_that_become_resources_are_numbers_or_words_of_a_list():
    given = [call for name in ("resources", "threads") for call in calls(name)]
    names = {node.id for call in given for node in ast.walk(call) if isinstance(node, ast.Name)}
    given += [value for name, value in constants().items() if name in names]
    used = {keys for node in given for keys in config_paths(node)}
    assert {("compute", "device"), ("compute", "gpus")} <= used
    for keys in used:
        schema = read_schema()
        for key in keys:
            schema = schema["properties"][key]
        assert "enum" in schema or schema["type"] in ("integer", "number"), keys


@pytest.mark.parametrize("value", ["__import__('os').system('touch x')", "cpu; touch x", "$(touch x)"])
def test_code_in_the_place_of_a_device_is_refused(value):
    with pytest.raises(AtlasError, match=r"compute\.device: is .*; expected one of auto cpu cuda"):
        read_study({**SMOKE, "compute": {"device": value}})


def test_only_the_name_of_the_study_and_the_folder_of_facts_are_put_into_patterns():
    texts = [node for tree in RULE_TREES.values() for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)]
    assert {keys for text in texts for keys in config_paths(text)} == {("study",), ("facts", "folder")}


@pytest.mark.parametrize("name", ["script", "conda", "lookup", "include"])
def test_scripts_environments_and_queries_are_named_by_the_rules_alone(name):
    found = calls(name)
    assert found
    for call in found:
        named = (
            [keyword.value for keyword in call.keywords if keyword.arg == "dpath"] if name == "lookup" else call.args
        )
        assert isinstance(named[0], ast.Constant), ast.unparse(call)
        assert not list(config_paths(named[0])) and "{wildcards" not in named[0].value
        assert set(re.findall(r"{(\w+)}", named[0].value)) <= {"model"}


@pytest.mark.parametrize("profile", ["slurm", "local-gpu"])
@pytest.mark.parametrize("value", ["__import__('os').system('touch x')", "a'+'b", "cpu; touch x", "$(touch x)"])
def test_the_environment_is_no_code_in_a_profile(monkeypatch, profile, value):
    """Such a value is refused: Snakemake reads resources as Python expressions, and its SLURM plugin asks a shell."""
    text = (ROOT / profile / "config.yaml").read_text()
    names = sorted(set(re.findall(r"KNATLAS_\w+", text)) - {"KNATLAS_SLURM_STATUS", "KNATLAS_MAX_MINUTES"})
    assert names
    for name in names:
        with monkeypatch.context() as context:
            context.setenv(name, value)
            with pytest.raises((SystemExit, YteError)):
                yte.process_yaml(text, require_use_yte=True)


def test_names_of_partitions_stay_texts(monkeypatch):
    for name in ("all", "1-2", "gpu-long", "max"):
        monkeypatch.setenv("KNATLAS_CPU_PARTITION", name)
        profile = yte.process_yaml((ROOT / "slurm" / "config.yaml").read_text(), require_use_yte=True)
        assert ast.literal_eval(profile["default-resources"]["slurm_partition"]) == name
