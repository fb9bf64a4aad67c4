"""Snakemake whose scripts start as forks of one process that has imported the libraries: the same jobs, without the
seconds that each of them takes to import PyTorch and transformers.

`python -m local ARGUMENTS` in place of `snakemake ARGUMENTS`, for runs on one Linux machine. Elsewhere, and for jobs in
a conda environment or a container, with a benchmark or on a GPU, each script is a process of its own.
"""

import sys

from local.forks import forking, start_server


def main() -> None:
    """Run Snakemake with the arguments of the command line."""
    # jobs tell their user which command repeats them
    sys.argv[0] = "snakemake"
    can_fork = sys.platform == "linux"
    if can_fork:
        # before Snakemake's own imports and the making of the DAG, which go on beside it
        start_server()
    from snakemake.cli import main as run_snakemake
    from snakemake.script import PythonScript

    if can_fork:
        PythonScript.execute_script = forking(PythonScript.execute_script)
    run_snakemake()


if __name__ == "__main__":
    main()
