"""Scripts that start as forks: what Snakemake and the scripts see of it is what they see of processes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.workflow

RULES = ("plain", "on_gpu", "raising", "leaving", "killed")
SNAKEFILE = """
rule all:
    input: expand("{name}.json", name=RULES)

rule plain:
    output: "plain.json"
    params: value=[1, "two"]
    threads: 2
    script: "look.py"

rule on_gpu:
    output: "on_gpu.json"
    params: value=0
    resources: gpu=1
    script: "look.py"
"""
OTHER_RULES = """
rule {name}:
    output: "{name}.json"
    script: "{name}.py"
"""
SCRIPTS = {
    "look.py": """
import json, os, sys
seen = {
    "arguments": sys.argv, "main": __name__, "folder": os.getcwd(), "threads": snakemake.threads,
    "value": snakemake.params.value, "variable": os.environ["OF_THE_SNAKEFILE"], "temporary": os.environ["TMPDIR"],
    "is_fork": "transformers" in sys.modules,
}
json.dump(seen, open(snakemake.output[0], "w"))
""",
    "raising.py": """
import os
from knatlas.redaction import hide_in_tracebacks
hide_in_tracebacks()
raise RuntimeError("no entry with " + os.environ["HF_TOKEN"])
""",
    "leaving.py": "import sys\nprint('leaves with a sentence', file=sys.stderr)\nsys.exit(3)\n",
    "killed.py": "import os\nos.kill(os.getpid(), 9)\n",
    "waiting.py": """
import time
from pathlib import Path
try:
    Path("started").touch()
    time.sleep(300)
except KeyboardInterrupt:
    Path("interrupted").touch()
    raise
""",
}
TOKEN = "hf_abcdefghijklmnopqrstuvwxyz"  # no token, but of the form of one


def start(root: Path, folder: Path, *arguments: str) -> subprocess.Popen:
    """Snakemake with forks in a folder with a workflow of its own, in a group of processes of its own."""
    head = f'import os\nos.environ["OF_THE_SNAKEFILE"] = "known"\nRULES = {RULES}\n'
    others = [OTHER_RULES.format(name=name) for name in (*RULES[2:], "waiting")]
    (folder / "Snakefile").write_text(head + SNAKEFILE + "".join(others))
    for name, text in SCRIPTS.items():
        (folder / name).write_text(text)
    environment = {**os.environ, "PYTHONPATH": str(root), "HF_TOKEN": TOKEN}
    command = [sys.executable, "-m", "local", "--cores", "2", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL, "text": True}
    return subprocess.Popen(command, cwd=folder, env=environment, start_new_session=True, **pipes)


@pytest.fixture(scope="module")
def ran(root, tmp_path_factory) -> tuple[Path, int, str]:
    """Folder, exit status and messages of a run of all rules but the one that waits."""
    folder = tmp_path_factory.mktemp("forked")
    process = start(root, folder, "--keep-going")
    output, _ = process.communicate(timeout=300)
    return folder, process.returncode, output


def seen_by(folder: Path, rule: str) -> dict:
    return json.loads((folder / f"{rule}.json").read_text())


def test_a_script_is_a_program_in_a_fork(ran):
    """Nothing of it imported transformers: it was there."""
    seen = seen_by(ran[0], "plain")
    assert seen["main"] == "__main__"
    assert len(seen["arguments"]) == 1 and seen["arguments"][0].endswith(".look.py")
    assert seen["folder"] == str(ran[0]) and (seen["threads"], seen["value"]) == (2, [1, "two"])
    assert seen["variable"] == "known" and Path(seen["temporary"]).is_dir()
    assert seen["is_fork"] is True


def test_a_job_on_a_gpu_is_a_process_of_its_own(ran):
    seen = seen_by(ran[0], "on_gpu")
    assert seen["is_fork"] is False and seen["variable"] == "known"


def test_scripts_that_fail_fail_their_jobs(ran):
    folder, status, output = ran
    assert status == 1
    assert [rule for rule in RULES if (folder / f"{rule}.json").exists()] == ["plain", "on_gpu"]
    for rule in ("raising", "leaving", "killed"):
        assert f"Error in rule {rule}:" in output
    assert "non-zero exit status 3" in output and "died with <Signals.SIGKILL: 9>" in output


def test_a_traceback_has_no_token(ran):
    assert "RuntimeError: no entry with" in ran[2]
    assert TOKEN not in ran[2]


def test_ctrl_c_ends_the_scripts_too(root, tmp_path):
    """The terminal sends the signal to all processes of its group, the forks among them."""
    # tests that run in the background of a shell ignore it, and what they start would too
    signal.signal(signal.SIGINT, signal.default_int_handler)
    process = start(root, tmp_path, "--", "waiting.json")
    wait_for((tmp_path / "started").exists)
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=120)
    assert process.returncode != 0 and (tmp_path / "interrupted").exists()
    wait_for(lambda: not is_alive(process.pid))


def wait_for(condition: object, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.2)


def is_alive(group: int) -> bool:
    """Whether a process of the group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
