"""Write the HTML report of everything that `all` made, with Snakemake's own report maker."""

import subprocess
import sys
from tempfile import TemporaryDirectory

import yaml

from knatlas.errors import AtlasError
from knatlas.job import Job
from knatlas.storage import copy_file, write_text

with Job(snakemake) as job, TemporaryDirectory() as folder:
    write_text(yaml.safe_dump(dict(snakemake.params.config)), f"{folder}/study.yaml")
    # --nolock: this job runs under the lock of the workflow that waits for it
    command = [sys.executable, "-m", "snakemake", "--snakefile", snakemake.params.snakefile, "--nolock", "all"]
    command += ["--configfile", f"{folder}/study.yaml", "--report", f"{folder}/report.html"]
    done = subprocess.run(command, capture_output=True, text=True)
    job.log(done.stdout + done.stderr)
    if done.returncode:
        raise AtlasError(f"the report could not be written; Snakemake's words are in {snakemake.log[0]}")
    copy_file(f"{folder}/report.html", snakemake.output[0])
