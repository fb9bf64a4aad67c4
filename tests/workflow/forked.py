"""Snakemake whose scripts run in forks of one process that has imported the libraries: the same jobs without start-up.

As `python -m tests.workflow.forked ARGUMENTS` in place of `python -m snakemake ARGUMENTS`, for tests that run a whole
study again and look at its numbers only. OMP_NUM_THREADS holds for all jobs, where Snakemake sets it for each.
"""

import runpy
import subprocess
import sys
from multiprocessing import get_context
from multiprocessing.connection import wait
from threading import Lock

# those that most scripts import; the library's bring the rest of transformers with them
PRELOADED = ("knatlas.models.loading", "knatlas.attribution.engine", "scipy.stats", "snakemake.script")

forks, one_at_a_time = get_context("forkserver"), Lock()


def run_script(path: str) -> None:
    """Run a script as a program of its own; in a fork."""
    sys.argv = [path]
    runpy.run_path(path, run_name="__main__")


def execute_script(self: object, fname: str, edit: bool = False) -> None:
    """What `PythonScript.execute_script` of Snakemake does, in a fork."""
    job = forks.Process(target=run_script, args=(str(fname),))
    # Snakemake runs jobs in threads, and starting one looks after all others: two must not read the same exit status
    with one_at_a_time:
        job.start()
    wait([job.sentinel])
    with one_at_a_time:
        job.join()
    if job.exitcode != 0:
        raise subprocess.CalledProcessError(job.exitcode, str(fname))


if __name__ == "__main__":
    from snakemake.cli import main
    from snakemake.script import PythonScript

    forks.set_forkserver_preload(list(PRELOADED))
    PythonScript.execute_script = execute_script
    main()
