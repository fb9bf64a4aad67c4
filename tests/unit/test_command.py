"""The command in a sentence is the user's own, with the file in place of the targets."""

import pytest

from knatlas.command import VARIABLE, making_again, remember_command

FILE = "results/smoke/facts/facts.parquet"


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("snakemake --cores 4 --configfile studies/smoke.yaml -- all", "--cores 4 --configfile studies/smoke.yaml"),
        ("/a/bin/snakemake --profile slurm all --rerun-incomplete tables", "--profile slurm"),
        ("/a/snakemake/__main__.py -c2 all -n", "-c2"),
        ("snakemake --cores=all --config seed=1 study=x --keep-going figures", "--cores=all --config seed=1 study=x"),
        ("snakemake --cores 2 figures --resources gpu=2 --directory /a", "--cores 2 --directory /a"),
        ("snakemake all --configfile=b.yaml all", "--cores 2 --configfile=b.yaml"),
    ],
)
def test_options_that_say_which_study_stay_and_targets_go(monkeypatch, typed, said):
    environment = {}
    remember_command(typed.split(), environment)
    monkeypatch.setenv(VARIABLE, environment[VARIABLE])
    assert making_again([FILE]) == f"snakemake {said} --force -- {FILE}"


@pytest.mark.parametrize("typed", ["python x.py --cores 2", "snakemake --snakefile S --mode subprocess --cores 1", ""])
def test_other_programs_and_the_processes_of_jobs_say_nothing(typed):
    environment = {}
    remember_command(typed.split(), environment)
    assert environment == {}


def test_the_processes_of_jobs_keep_the_command_of_the_user():
    environment = {VARIABLE: "--profile slurm"}
    remember_command(["snakemake", "--cores", "1"], environment)
    assert environment == {VARIABLE: "--profile slurm"}


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (FILE, f"--cores 2 --configfile studies/smoke.yaml --force -- {FILE}"),
        (
            "/a/results/papers/facts/x",
            "--cores 2 --configfile studies/papers.yaml --force -- /a/results/papers/facts/x",
        ),
        ("results/embedded/x y", "--cores 2 --force -- 'results/embedded/x y'"),
        ("data/pararel", "--cores 2 --force -- data/pararel"),
        ("results/mine/x", "--cores 2 --configfile the-configuration-of-mine.yaml --force -- results/mine/x"),
    ],
)
def test_without_a_command_the_configuration_is_that_of_the_study_of_the_path(monkeypatch, path, said):
    monkeypatch.delenv(VARIABLE, raising=False)
    assert making_again([path]) == f"snakemake {said}"
