"""Python scripts of Snakemake as forks of one process, the server, that has imported the libraries."""

import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from multiprocessing import forkserver, get_context
from multiprocessing.connection import wait
from threading import Lock

# those that most scripts import; the library's bring the rest of PyTorch, pandas and matplotlib with them
PRELOADED = (
    "snakemake.script",
    "transformers.models.bert.modeling_bert",
    "transformers.models.gpt2.modeling_gpt2",
    "transformers.models.llama.modeling_llama",
    "knatlas.models.loading",
    "knatlas.attribution.engine",
    "knatlas.figures.style",
    "scipy.stats",
)
# What libraries read while they are imported, before it is known which job a fork will be: one thread (each job sets
# PyTorch's by itself), and a way to count GPUs that leaves their initialisation to the forks.
DEFAULTS = {"OMP_NUM_THREADS": "1", "PYTORCH_NVML_BASED_CUDA_CHECK": "1"}

one_at_a_time = Lock()


def start_server() -> None:
    """Start the process whose forks the scripts will be; it imports the libraries while this one goes on."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    forkserver.set_forkserver_preload(list(PRELOADED))
    forkserver.ensure_running()


def forking(execute_script: Callable) -> Callable:
    """The method `execute_script` of Snakemake's Python scripts, with forks for those that need nothing else."""

    def execute(self: object, fname: str, edit: bool = False) -> None:
        if runs_in_fork(self):
            environment = os.environ | {"TMPDIR": str(self.resources.get("tmpdir", "/tmp"))}
            run_in_fork(str(fname), dict(environment))
        else:
            execute_script(self, fname, edit)

    return execute


def runs_in_fork(script: object) -> bool:
    """Whether a script needs nothing but this Python and no GPU."""
    places = (script.conda_env, script.container_img, script.env_modules, script.bench_record)
    return not any(places) and not script.resources.get("gpu", 0)


def run_in_fork(path: str, environment: dict[str, str]) -> None:
    """Run a script and wait for it.

    Raises: CalledProcessError for another exit status than 0, as of a script that is a process of its own.
    """
    job = get_context("forkserver").Process(target=run_script, args=(path, environment))
    # Snakemake runs jobs in threads, and starting one looks after all others: two must not read the same exit status
    with one_at_a_time:
        job.start()
    wait([job.sentinel])
    with one_at_a_time:
        job.join()
    if job.exitcode != 0:
        raise subprocess.CalledProcessError(job.exitcode, path)


def run_script(path: str, environment: dict[str, str]) -> None:
    """In a fork: be the program that a script is. Its hook prints errors that nobody handles, without their secrets."""
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [path]
    try:
        runpy.run_path(path, run_name="__main__")
    except Exception:
        sys.excepthook(*sys.exc_info())
        sys.exit(1)
