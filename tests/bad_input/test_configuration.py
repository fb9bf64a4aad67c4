"""Mistakes in the configuration of a study, through Snakemake's own entry point: nothing is planned."""

import pytest
import yaml

from knatlas.check import main as check

NAN, INFINITE = float("nan"), float("inf")
OWN = {"origin": "hub", "id": "owner/name", "kind": "causal"}

# name, what is other than in studies/smoke.yaml, the sentence
CASES = [
    # keys and types
    ("unknown key", {"langauges": ["en"]}, "langauges: unknown key; allowed here: study seed languages"),
    ("unknown key within", {"selection.matrice": {"taus": 0.3}}, "taus: unknown key; allowed here: tau alpha1"),
    ("text for a list", {"languages": "en"}, "languages: is 'en'; expected a list ("),
    ("list for a mapping", {"selection": ["bkn"]}, "selection: is ['bkn']; expected a mapping"),
    ("number for a mapping", {"selection.bkn.tau": 0.3}, "selection.bkn.tau: is 0.3; expected a mapping (Threshold"),
    ("nothing for a mapping", {"facts": None}, "facts: is null; expected a mapping"),
    ("text for a number", {"seed": "1e3"}, "seed: is '1e3'; expected a whole number (Run seed; every stage derives"),
    ("float for a whole number", {"seed": 1.0}, "seed: is 1.0; expected a whole number"),
    ("no in YAML", {"languages": ["en", False]}, "languages[1]: is false; expected text; YAML reads this as true or"),
    ("date without quotes", {"facts.as_of": yaml.safe_load("2025-01-01")}, "YAML reads this as a date: write it in"),
    # values
    (
        "share above 1",
        {"selection.matrice.tau": 1.5},
        "is 1.5; expected a number, more than 0 and less than 1 (Neurons",
    ),
    ("share that is NaN", {"selection.matrice.tau": NAN}, "selection.matrice.tau: is nan; expected a number that is"),
    ("weight without end", {"selection.matrice.alpha1": INFINITE}, "alpha1: is inf; expected a number that is finite"),
    ("negative count", {"localisation.facts": -3}, "localisation.facts: is -3; expected a whole number, at least 1 ("),
    ("too many shards", {"attribution.shards": 9}, "attribution.shards: is 9, but only 6 facts are searched"),
    ("seed too large", {"seed": 10**30}, "expected a whole number, at least 0 and at most 4294967295 (Run seed"),
    ("no day", {"facts.as_of": "2025-02-30"}, "facts.as_of: is '2025-02-30', which is no day of the calendar"),
    ("name with a slash", {"study": "a/b"}, "study: is 'a/b'; expected another form (Name of the study, of letters"),
    ("name that leaves the folder", {"study": ".."}, "study: is '..'; expected another form (Name of the study"),
    ("name with a line end", {"study": "smoke\n"}, "study: is 'smoke\\n'; expected another form"),
    ("empty list", {"models": []}, "models: is []; expected a list of at least 1 (Models by their names"),
    ("empty grid", {"experiments.sweeps.tau": []}, "experiments.sweeps.tau: is []; expected a list of at least 1"),
    ("language twice", {"languages": ["en", "fr", "en"]}, "languages: 'en' stands twice in the list; write it once"),
    ("relation twice", {"facts.relations": ["P36", "P36"]}, "facts.relations: 'P36' stands twice in the list"),
    # names
    ("unknown language", {"languages": ["en", "jp"]}, "languages[1] is 'jp'; expected a language of catalog/"),
    ("unknown model", {"models": ["smoke-gtp2"]}, "Did you mean 'smoke-gpt2'? Models of your own go into"),
    ("unknown relation", {"facts.relations": ["P36", "P99"]}, "facts.relations[1] is 'P99'; expected a relation of"),
    ("unknown selection", {"selection.selections": ["matrix"]}, "selections[0] is 'matrix'; expected a selection (bkn"),
    ("unknown method", {"attribution.run": ["sagi"]}, "expected one of bkn amig saig atp. Did you mean 'saig'?"),
    ("unknown source", {"facts.source": "mparalel"}, "expected one of cldr mpararel multilingual_pararel context"),
    ("unknown word", {"compute.device": "gpu"}, "compute.device: is 'gpu'; expected one of auto cpu cuda. Did you"),
    (
        "unknown selection of an experiment",
        {"experiments.enhancement.selections": ["matrix"]},
        "experiments.enhancement.selections[0] is 'matrix'; expected a selection",
    ),
    (
        "unknown language of an experiment",
        {"experiments.enhancement.languages": ["jp"]},
        "experiments.enhancement.languages[0] is 'jp'; expected a language of catalog/languages.yaml",
    ),
    (
        "unknown model of an experiment",
        {"experiments.rome.layers": {"default": "auto", "smoke-gtp2": 0}},
        "experiments.rome.layers: the name is 'smoke-gtp2'; expected `default` or a model",
    ),
    # models of one's own
    ("no id", {"additional_models": {"m": {"origin": "hub", "kind": "causal"}}}, "origin 'hub' needs the key 'id'"),
    ("path as a name", {"additional_models": {"../m": OWN}}, "additional_models: the name is '../m'; expected another"),
    (
        "a name of the catalog",
        {"additional_models": {"gpt2": OWN}},
        "additional_models.gpt2: catalog/models.yaml has a",
    ),
    (
        "folder and hub",
        {"additional_models": {"m": {**OWN, "folder": "f"}}},
        "m.folder: is of no use with origin 'hub'",
    ),
    (
        "one language as text",
        {"additional_models": {"m": {**OWN, "languages": "en"}}},
        "m.languages: is 'en'; expected",
    ),
    # settings that contradict
    ("models of another language", {"languages": ["ko"], "models": ["gpt2"]}, "'gpt2' is studied in en only, and none"),
    (
        "trained on other facts",
        {"facts.source": "mpararel"},
        "is trained on the facts of source 'cldr', but facts.source",
    ),
    (
        "languages that the source lacks",
        {"facts.source": "context_pararel", "models": ["mbert"]},
        "languages: is en fr ko, but facts.source 'context_pararel' is in English alone",
    ),
    ("method that isn't run", {"attribution.run": ["bkn", "saig"]}, "reads the scores of 'amig', which is not in"),
    (
        "controls of nothing",
        {"selection.selections": ["random"]},
        "selection.random.reference: is 'matrice', but nothing",
    ),
    (
        "low above high",
        {"experiments.degenerate.low": 0.9},
        "experiments.degenerate.low: is 0.9, more than high (0.25)",
    ),
    ("falling levels", {"experiments.punctuation.levels": [0.9, 0.6]}, "expected rising shares: [0.6, 0.9]"),
    # paths
    ("no such folder", {"facts.source": "mpararel", "facts.folder": "no/such"}, "facts.folder: 'no/such' is not there"),
    ("no such corpus", {"experiments.punctuation.corpus": "no.txt"}, "'no.txt' is not there; give a file, or null"),
]


@pytest.mark.parametrize(("changes", "sentence"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_mistake_is_refused_before_anything_is_planned(place, changes, sentence):
    name = place.write(place.changed(changes))
    shown = place.refuses(sentence, place.snakemake("-n", "all", configfile=name))
    assert "mistake(s)" in shown and "Job stats" not in shown


def test_all_mistakes_are_said_at_once(place):
    wrong = {"languages": ["en", "jp"], "models": ["smoke-gtp2"], "facts.relations": ["P0"]}
    of_all = {"experiments.fidelity.models": "all", "controls.models": "all"}
    name = place.write(place.changed({**wrong, **of_all}))
    shown = place.refuses("3 mistake(s)", place.snakemake("-n", "all", configfile=name))
    assert "languages[1]" in shown and "models[0]" in shown and "facts.relations[0]" in shown


# name, text of the file, what Snakemake says, what the check says
FILES = [
    ("bracket", "study: smoke\nlanguages: [en\nmodels: [a]\n", "not valid JSON or YAML", "line 3 is not YAML: did not"),
    ("tab", "study: smoke\nfacts:\n\tsource: cldr\n", "not valid JSON or YAML", "line 3 is not YAML: found character"),
    (
        "empty",
        "",
        "must be given as JSON or YAML with keys",
        "is empty; expected keys such as study, languages, models",
    ),
    ("list", "- smoke\n", "must be given as JSON or YAML with keys", "holds a list; expected keys such as study"),
    (
        "key twice",
        "study: smoke\nlanguages: [en]\nmodels: [smoke-bert]\nlanguages: [fr]\n",
        "study.yaml, line 4: the key 'languages' stands in line 2 already; keep one of the two",
        "study.yaml, line 4: the key 'languages' stands in line 2 already; keep one of the two",
    ),
]


@pytest.mark.parametrize(("text", "shown", "checked"), [case[1:] for case in FILES], ids=[case[0] for case in FILES])
def test_a_file_that_is_no_configuration_is_refused_and_the_check_says_where(place, capsys, text, shown, checked):
    name = place.write(text)
    place.refuses(shown, place.snakemake("-n", "all", configfile=name))
    assert check([name]) == 1
    assert checked in capsys.readouterr().err


def test_the_check_of_a_study_without_mistakes_says_so(place, capsys):
    assert check([place.write(place.study)]) == 0
    assert "no mistake found in the study 'smoke'" in capsys.readouterr().out


def test_the_check_puts_files_together_as_snakemake_does(place, capsys):
    first = place.write(place.study)
    second = place.write({"selection": {"matrice": {"tau": 2}}}, "second.yaml")
    assert check([first, second]) == 1
    assert "selection.matrice.tau: is 2; expected" in capsys.readouterr().err
    assert check([]) == 2 and check(["no.yaml"]) == 1
