"""Kept files that are not what their rule wrote, or belong elsewhere: the job that reads them stops with a sentence."""

import numpy as np
import pandas as pd
import pytest

from knatlas.facts.table import FACT_COLUMNS, TEMPLATE_COLUMNS
from knatlas.provenance import file_digest
from knatlas.selection.neuron_set import SET_COLUMNS, SET_METADATA
from knatlas.storage import write_arrays, write_json, write_table

FACT = "P36:FR>Paris"
FACTS = pd.DataFrame([[FACT, "P36", "FR", "Paris", "en", "France", "Paris", *[False] * 6]], columns=FACT_COLUMNS)
TEMPLATES = pd.DataFrame([["P36", "en", 0, "The capital of [X] is [Y]", False]], columns=TEMPLATE_COLUMNS)
KNOWN = pd.DataFrame({"fact": [FACT], "relation": "P36", "language": "en", "query": 0, "p": 0.1, "is_argmax": False})
SET = pd.DataFrame([[FACT, "en", 0, 0, 3, 0.5, "amig"]], columns=SET_COLUMNS)
SET_OF = dict(zip(SET_METADATA, ["amig", [FACT], ["en"], 2, 8, 1, []], strict=True)) | {"model": {"name": "smoke-bert"}}


@pytest.fixture
def known(place):
    """The table of what a model knows, which one job wrote and the next reads."""
    path = place.folder / "known.parquet"
    write_table(KNOWN.assign(model="smoke-gpt2"), path)
    write_json({"rule": "measure_known", "digest": file_digest(path)}, f"{path}.provenance.json")
    return path


def choose(place, known) -> tuple[object, str]:
    params = {"localisation": {"facts": 2, "known_languages": 1, "min_probability": 0}, "shards": 1, "seed": 0}
    output = {"facts": place.folder / "out" / "facts.parquet"}
    return place.script("choose_facts", input={"known": known}, output=output, params=params, wildcards={"model": "m"})


def test_a_model_that_knows_nothing_is_named_with_what_to_lower(place, known):
    sentence = (
        "none of the 1 facts qualifies for smoke-gpt2: known_languages asks for 1 languages (the best fact has 0)"
    )
    assert "lower one of them" in place.refuses(sentence, choose(place, known), is_job=True)


@pytest.mark.parametrize("change", ["cut off", "empty", "other bytes", "other table"])
def test_a_table_that_changed_since_it_was_written_is_named_with_its_rule(place, known, change):
    content = known.read_bytes()
    if change == "other table":
        write_table(KNOWN.head(0), known)
    else:
        known.write_bytes({"cut off": content[:-9], "empty": b"", "other bytes": content[:-3] + b"xyz"}[change])
    place.refuses(f"{known} is not what measure_known wrote", choose(place, known), is_job=True)


def test_a_torn_table_of_unknown_origin_is_named(place, known):
    known.with_name("known.parquet.provenance.json").unlink()
    known.write_bytes(known.read_bytes()[:-9])
    place.refuses(f"{known} can't be read as parquet", choose(place, known), is_job=True)


def test_a_missing_table_is_named_with_the_command_that_makes_it(place):
    place.refuses("known.parquet is not there", choose(place, place.folder / "known.parquet"), is_job=True)


# name, table of facts, templates, the sentence
TABLES = [
    ("no column", FACTS.drop(columns="subject_label"), TEMPLATES, "the table of facts has no column 'subject_label'"),
    (
        "no column of templates",
        FACTS,
        TEMPLATES.drop(columns="pattern"),
        "the table of templates has no column 'pattern'",
    ),
    ("no fact", FACTS.head(0), TEMPLATES, "no fact has prompts enough in every language and for every kind of model"),
    (
        "too few queries",
        FACTS,
        TEMPLATES,
        "(facts after each step: given 1, filled 1, merged 1, parallel 0); set facts.min",
    ),
]


@pytest.mark.parametrize(("facts", "templates", "sentence"), [case[1:] for case in TABLES], ids=[c[0] for c in TABLES])
def test_facts_of_which_no_prompts_can_be_made(place, facts, templates, sentence):
    files = {name: place.folder / f"{name}.parquet" for name in ("facts", "templates")}
    write_table(facts, files["facts"], {"languages": ["en"]})
    write_table(templates, files["templates"])
    output = {"prompts": place.folder / "out" / "p.parquet"}
    output |= {name: place.folder / "out" / f"{name}.csv" for name in ("steps", "modes")}
    form = {"ar_prompt": "auto", "context": 0, "answer_case": "keep"}
    params = {"prompts": form, "min_queries": 5, "seed": 0, "kinds": ["masked", "causal"]}
    place.refuses(sentence, place.script("build_prompts", input=files, output=output, params=params), is_job=True)


# name, table of sets, metadata, the sentence
SETS = [
    ("no column", SET.drop(columns="layer"), SET_OF, "amig.parquet: column layer is missing; expected fact language"),
    ("no metadata", SET, {}, "amig.parquet: metadata selection is missing; expected selection facts languages"),
    ("text for a layer", SET.assign(layer="first"), SET_OF, "amig.parquet: a value is of another type than its column"),
    ("no such layer", SET.assign(layer=2), SET_OF, "amig.parquet: a neuron has layer 2; expected 0 to 1"),
    (
        "other model",
        SET,
        {**SET_OF, "model": {"name": "mbert"}},
        "holds the sets of selection 'amig' in the model 'mbert'",
    ),
    (
        "other selection",
        SET,
        {**SET_OF, "selection": "bkn"},
        "holds the sets of selection 'bkn' in the model 'smoke-bert'",
    ),
]


@pytest.mark.parametrize(("table", "metadata", "sentence"), [case[1:] for case in SETS], ids=[c[0] for c in SETS])
def test_a_file_of_neurons_of_another_form_or_study_is_refused(place, table, metadata, sentence):
    path = place.folder / "results" / "other" / "neurons" / "smoke-bert" / "amig.parquet"
    write_table(table, path, metadata)
    place.keep()
    output = {"table": place.folder / "out" / "layers.csv"}
    params = {"seed": 0, "resamples": 100}
    place.refuses(
        sentence, place.script("summarise_layers", input={"neurons": [path]}, output=output, params=params), True
    )


def test_scores_of_another_form_are_refused(place):
    path = place.folder / "scores.safetensors"
    write_arrays({"amig.mean": np.zeros((1, 1, 2, 8), dtype=np.float32)}, path)
    output = {"neurons": [], "summary": place.folder / "out" / "summary.csv"}
    ended = place.script("select_neurons", input={"scores": path}, output=output, params={"selection": {}, "seed": 0})
    place.refuses("holds no scores: its metadata has no facts", ended, is_job=True)


# name, metadata of the second shard beside the first's, the sentence
SHARDS = [
    ("other model", {"model": {"name": "mbert"}}, "1.safetensors has another model than"),
    ("other methods", {"methods": []}, "1.safetensors has another methods than"),
    ("other language", {"language": "ja"}, "1.safetensors is of language 'ja'; expected a shard of en fr"),
    ("no shard", {"facts": None}, "1.safetensors is no shard of an attribution; expected a shard of en fr"),
]


@pytest.mark.parametrize(("changes", "sentence"), [case[1:] for case in SHARDS], ids=[case[0] for case in SHARDS])
def test_shards_of_different_runs_are_not_put_together(place, changes, sentence):
    common = {"model": {"name": "m"}, "methods": ["bkn"], "dtype": "float32", "language": "en", "facts": [FACT]}
    paths = [place.folder / f"{i}.safetensors" for i in range(2)]
    for path, metadata in zip(paths, [common, {**common, **changes}], strict=True):
        kept = {key: value for key, value in metadata.items() if value is not None}
        write_arrays({"bkn.mean": np.zeros((1, 2, 8), dtype=np.float32)}, path, kept)
    output = {"scores": place.folder / "out" / "s.safetensors", "queries": place.folder / "out" / "q.parquet"}
    ended = place.script("aggregate_scores", input={"shards": paths}, output=output, params={"languages": ["en", "fr"]})
    place.refuses(sentence, ended, is_job=True)
    assert not output["scores"].exists()
