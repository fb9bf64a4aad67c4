"""Real records of CounterFact on a model that is trained here: the loader, every editor and all metrics."""

import numpy as np
import pytest

from knatlas.catalog import FOLDER, read_catalog
from knatlas.experiments.counterfact import askable_requests, edit_records
from knatlas.experiments.counterfact_settings import CounterfactEdits, editors_of
from knatlas.facts.cldr import read_cldr
from knatlas.facts.counterfact import read_counterfact
from knatlas.facts.templates import read_templates
from knatlas.interventions.key_statistics import measure_key_statistics
from knatlas.models.embedded.gates import load_folder
from knatlas.models.embedded.recipe import read_recipe
from knatlas.models.embedded.training import train_embedded
from knatlas.models.language_model import as_language_model
from knatlas.statistics.counterfact import summarise_counterfact

RELATIONS, N_RECORDS = ["P36", "P30"], 8
STATISTICS = {"S", "ES", "EM", "PS", "PM", "NS", "NM", "moved"}
SETTINGS = CounterfactEdits(steps=5, noise="s3", samples=1, rome={"steps": 3, "prefix_lengths": [[3, 1]], "layer": 0})


@pytest.fixture(scope="module")
def embedded(tmp_path_factory):
    """A small GPT of the embedded kind, trained on English facts; with byte-level tokens it can write any text."""
    facts, _ = read_cldr(["en"], RELATIONS, "2025-01-01", read_catalog("capitals")["zones"])
    facts = facts.groupby("relation").head(40)
    templates = read_templates(FOLDER / "templates", ["en"], RELATIONS)
    recipe = {**read_catalog("models")["smoke-gpt2"]["recipe"], "held_out": {}, "dictionary": {}, "steps": 80}
    folder = tmp_path_factory.mktemp("embedded")
    train_embedded(read_recipe(recipe), facts, templates, ["en"], 0, folder)
    return as_language_model("embedded", *load_folder(folder), revision="trained here")


@pytest.fixture(scope="module")
def measured(shared_data, embedded):
    records = read_counterfact(shared_data / "counterfact" / "counterfact_500.json", N_RECORDS)
    texts = [record.prompt.format(record.subject) for record in records]
    # a handful of sentences has fewer tokens than the layer has neurons: the ridge makes the moment invertible
    statistics = measure_key_statistics(embedded, texts, [0])
    weights = [parameter.clone() for parameter in embedded.model.parameters()]
    editors = editors_of(embedded, askable_requests(embedded, records), SETTINGS, statistics)
    rows = edit_records(embedded, records, editors)
    is_same = [(old == new).all().item() for old, new in zip(weights, embedded.model.parameters(), strict=True)]
    return records, rows, is_same


def test_real_records_are_measured_by_every_editor_or_counted_as_too_long(measured):
    records, rows, is_same = measured
    assert all(is_same)
    assert set(rows["editor"]) == {"none", "kn_e", "cne", "rome", "rome_last"}
    asked = rows[~rows["is_left_out"]]
    assert set(asked["prompt_kind"]) == {"rewrite", "paraphrase", "neighborhood"}
    assert np.isfinite(asked[["nll_true_before", "nll_new_before", "nll_true", "nll_new"]]).all(axis=None)
    per_editor = rows.groupby("editor")["case"].nunique()
    assert (per_editor == len(records)).all() and asked["case"].nunique() >= len(records) // 2


def test_real_records_give_every_metric_and_the_unedited_model_is_the_plain_comparison(measured):
    records, rows, _ = measured
    table = summarise_counterfact(rows, resamples=200)
    for editor, part in table.groupby("editor"):
        assert set(part["statistic"]) == STATISTICS, editor
        assert (part["n"] + part["n_excluded"] == len(records))[part["statistic"] == "ES"].all()
    rewrite = rows[(rows["editor"] == "none") & (rows["prompt_kind"] == "rewrite") & ~rows["is_left_out"]]
    share = 100 * (rewrite["nll_true"] > rewrite["nll_new"]).mean()
    found = table[(table["editor"] == "none") & (table["statistic"] == "ES")]["value"].item()
    assert found == pytest.approx(share)
