"""Promises of the repository itself: rooms, pins, thin scripts, no torch where no model is needed."""

import ast
import re
import subprocess
import sys

import pytest
import yaml

from knatlas.provenance import imported_modules

ROOMS = [
    "reporting",
    "figures",
    "statistics",
    "experiments",
    "interventions",
    "selection",
    "attribution",
    "models",
    "facts",
]
# rooms on one step of the stairs do not know each other
SAME_STEP = {("interventions", "selection"), ("selection", "interventions")}


def imports_of(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_imports_run_down_the_rooms_only(root):
    wrong = []
    for i, room in enumerate(ROOMS):
        for path in (root / "knatlas" / room).rglob("*.py"):
            targets = [name.split(".")[1] for name in imports_of(path) if name.startswith("knatlas.")]
            wrong += [
                f"{path.relative_to(root)} imports {t}" for t in targets if t in ROOMS[:i] or (room, t) in SAME_STEP
            ]
    assert wrong == []


def test_the_library_does_not_know_snakemake(root):
    paths = (root / "knatlas").rglob("*.py")
    assert [str(path) for path in paths if any(name.split(".")[0] == "snakemake" for name in imports_of(path))] == []


def test_scripts_are_thin(root):
    lengths = {path.name: len(path.read_text().splitlines()) for path in (root / "scripts").glob("*.py")}
    assert {name: n for name, n in lengths.items() if n > 40} == {}


def test_every_rule_has_a_script_of_its_own_and_every_script_a_rule(root):
    text = "".join(path.read_text() for path in (root / "rules").glob("*.smk"))
    named = re.findall(r'"\.\./scripts/(\w+\.py)"', text)
    assert sorted(named) == sorted(path.name for path in (root / "scripts").glob("*.py"))


def test_every_rule_that_computes_has_a_log_an_environment_and_resources(root):
    text = "".join(path.read_text() for path in sorted((root / "rules").glob("*.smk")))
    rules = [rule for rule in re.split(r"\n(?=rule )", text) if rule.startswith("rule ") and "script:" in rule]
    assert len(rules) >= 20
    for rule in rules:
        for directive in ("log:", "conda:", "mem_mb=", "runtime=", "message:", "code=code_of("):
            assert directive in rule, f"{rule.splitlines()[0]} lacks {directive}"


def pins(lines):
    return dict(line.split("==") for line in lines if "==" in line)


@pytest.mark.parametrize("name", ["data", "models", "report"])
def test_conda_environments_have_the_pins_of_the_requirements(root, name):
    required = pins((root / "requirements.txt").read_text().splitlines())
    environment = yaml.safe_load((root / "envs" / f"{name}.yaml").read_text())
    packages = pins(next(entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)))
    assert packages == {package: required[package] for package in packages} and len(packages) >= 8


# distributions whose modules have other names
DISTRIBUTIONS = {"yaml": "PyYAML"}


def test_conda_environments_have_what_the_scripts_of_their_rules_import(root):
    text = "".join(path.read_text() for path in (root / "rules").glob("*.smk"))
    rules = [rule for rule in re.split(r"\n(?=rule )", text) if "script:" in rule]
    assert len(rules) >= 20
    for rule in rules:
        name, script = (re.search(rf"{folder}/(\w+\.\w+)", rule).group(1) for folder in ("envs", "scripts"))
        environment = (root / "envs" / name).read_text()
        for module in imported_modules(root / "scripts" / script, root) | {root / "scripts" / script}:
            others = {n.split(".")[0] for n in imports_of(module)} - sys.stdlib_module_names - {"knatlas"}
            missing = {n for n in others if f"- {DISTRIBUTIONS.get(n, n)}==" not in environment}
            assert not missing, f"{script} imports {missing} through {module}, {name} lacks it"


def test_requirements_are_exact_and_name_no_host(root):
    lines = [line for line in (root / "requirements.txt").read_text().splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[A-Za-z0-9_.]+", line) for line in lines)
    assert pins(lines)["torch"] == "2.13.0"


def needs_no_model(root):
    text = "".join(path.read_text() for path in (root / "rules").glob("*.smk"))
    rules = re.split(r"\n(?=rule )", text)
    return [re.search(r"scripts/(\w+\.py)", rule).group(1) for rule in rules if "envs/data.yaml" in rule]


def test_scripts_that_need_no_model_import_no_torch(root):
    for script in needs_no_model(root):
        for module in imported_modules(root / "scripts" / script, root) | {root / "scripts" / script}:
            heavy = {name.split(".")[0] for name in imports_of(module)} & {"torch", "transformers", "tokenizers"}
            assert not heavy, f"{script} imports {heavy} through {module}"


def test_the_library_imports_without_torch_where_it_should():
    modules = "knatlas.selection.select, knatlas.facts.sources, knatlas.figures"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_functions_and_files_stay_short(root):
    for path in (root / "knatlas").rglob("*.py"):
        text = path.read_text()
        assert len(text.splitlines()) <= 250, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < 60, f"{path}: {node.name}"
