"""Mistakes on the command line and in the environment, through Snakemake's own entry point."""

import pytest

from knatlas.check import main as check

NEURONS = "results/smoke/neurons"

# name, arguments, the sentence
CASES = [
    ("unknown stage", ["figurs"], "the target 'figurs' is no rule and no file; stages are data models"),
    ("unknown rule", ["all", "--forcerun", "select_neuron"], "the target 'select_neuron' is no rule and no file"),
    ("unknown end", ["all", "--until", "plot_layer"], "Did you mean 'plot_layers'? All: snakemake --list"),
    ("unknown model", ["results/smoke/known/smoke-gtp2.parquet"], "its model is 'smoke-gtp2'; expected a model of the"),
    ("unknown selection", [f"{NEURONS}/smoke-gpt2/matrix.parquet"], f"mean '{NEURONS}/smoke-gpt2/matrice.parquet'?"),
    ("unknown language", ["results/smoke/attribution/smoke-gpt2/fi/0.safetensors"], "its language is 'fi'; expected a"),
    ("unknown table", ["results/smoke/tables/matrice_tabel4.csv"], "mean 'results/smoke/tables/matrice_table4.csv'?"),
    ("unknown data set", ["data/mparalel"], "its dataset is 'mparalel'; expected a dataset of the study (mpararel"),
    ("other study", ["results/smok/tables/known.csv"], "is of the study 'smok', but this one is 'smoke'"),
    ("unknown key", ["--config", "langages=en"], "langages: unknown key; allowed here: study seed languages"),
    ("wrong value", ["--config", "seed=abc"], "seed: is 'abc'; expected a whole number"),
]


@pytest.mark.parametrize(("arguments", "sentence"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_mistake_on_the_command_line_is_refused(place, arguments, sentence):
    name = place.write(place.study)
    shown = place.refuses(sentence, place.snakemake("-n", *arguments, configfile=name))
    assert "Job stats" not in shown


def test_a_target_that_a_rule_makes_or_that_is_there_is_accepted(place):
    name = place.write(place.study)
    there = "results/smoke/known/smoke-gpt2.parquet"
    for target in ("tables", "results/smoke/tables/known.csv", f"./{there}"):
        code, shown = place.snakemake("-n", target, configfile=name)
        assert code == 0, shown[-2000:]


def test_a_folder_without_a_configuration_is_refused(place):
    place.refuses("Workflow defines configfile config.yaml but it is not present", place.snakemake("-n", "all"))


@pytest.mark.parametrize("value", ["abc", "-5", "1.5"])
def test_a_time_limit_of_the_environment_that_is_no_number_is_refused(place, monkeypatch, value):
    monkeypatch.setenv("KNATLAS_MAX_MINUTES", value)
    name = place.write(place.study)
    place.refuses(f"KNATLAS_MAX_MINUTES is '{value}'", place.snakemake("-n", "data", configfile=name))


# what Snakemake reads before the rules, and answers with a traceback of its own: name, content, what the check says
BEFORE_THE_RULES = [
    ("no configuration file", None, "can't be read (No such file or directory); give the path of a configuration"),
    ("other letters", "study: smöke\n".encode("latin-1"), "is not UTF-8 text (byte 9); save it as UTF-8"),
]


@pytest.mark.parametrize(
    ("content", "checked"), [case[1:] for case in BEFORE_THE_RULES], ids=[case[0] for case in BEFORE_THE_RULES]
)
def test_what_snakemake_itself_stumbles_over_fails_and_the_check_explains_it(place, capsys, content, checked):
    name = "study.yaml" if content is None else place.write(content)
    code, shown = place.snakemake("-n", "all", configfile=name)
    # a traceback, which no rule can turn into a sentence; its last line says what is wrong
    assert code == 1 and ("No such file" in shown or "can't decode byte" in shown)
    assert place.results() == place.before
    assert check([name]) == 1 and checked in capsys.readouterr().err


@pytest.mark.parametrize("argument", ["n=4", "seed"])
def test_a_value_without_a_key_fails_before_the_rules_are_read(place, argument):
    name = place.write(place.study)
    code, shown = place.snakemake("-n", "all", "--config", argument, configfile=name)
    assert code == 1 and "Invalid config definition: Config entr" in shown and place.results() == place.before
