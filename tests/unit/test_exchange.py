"""Neurons of other people's files: what they list is what the study gets, and each mistake in them is a sentence."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import hypergeom

from knatlas.errors import AtlasError
from knatlas.models.index_lists import read_index_lists
from knatlas.selection.exchange import export_sets, import_sets
from knatlas.selection.importers.json_files import read_listed
from knatlas.selection.importers.keys import keys_of
from knatlas.selection.importers.language_lists import LANGUAGES, language_sets
from knatlas.selection.importers.listed import listed_set
from knatlas.selection.neuron_set import FoundSet, NeuronSets, as_table, read_neuron_sets
from knatlas.statistics.set_comparison import N_RANDOM, compare_facts, compare_pairs, layer_profiles
from knatlas.storage import write_json, write_table

DATA = Path(__file__).parents[1] / "data" / "exchange"
PARIS, BERLIN, ROME = FACTS = ["P36:Q142>Q90", "P36:Q183>Q64", "P36:Q38>Q220"]
UUIDS = [f"11111111-aaaa-4aaa-8aaa-00000000000{i}" for i in (1, 2, 3)]
LABELS = [("France", "Paris"), ("Germany", "Berlin"), ("Italy", "Rome")]
MODEL = {"name": "tiny", "revision": "r1"}


def sets_of(found, name="ours", languages=("en",), facts=FACTS, shape=(3, 8), **settings):
    """Sets from {(fact, language): {(layer, index): score}}."""
    parts = []
    for (fact, language), neurons in found.items():
        layers, indices = np.array(list(neurons), dtype=int).reshape(-1, 2).T
        parts.append(FoundSet(fact, language, 0, layers, indices, np.array(list(neurons.values()), dtype=float)))
    settings = {"origin": {"model": MODEL}} | settings
    return NeuronSets(as_table(name, parts), name, list(facts), list(languages), *shape, **settings)


def facts_table(facts=FACTS, language="en"):
    rows = [(fact, "P36", language, *labels) for fact, labels in zip(facts, LABELS, strict=True)]
    return pd.DataFrame(rows, columns=["fact", "relation", "language", "subject_label", "object_label"])


KEYS = dict(zip(UUIDS, FACTS, strict=True))


def imported(listed, name="theirs", keys=KEYS, reference=None):
    return import_sets(listed, name, reference or sets_of({}), keys, {"format": "some"}, "FILE")


def as_dict(sets, language="en"):
    return {fact: {tuple(pair) for pair in pairs} for fact, pairs in export_sets(sets, language).items()}


def test_a_folder_of_eleutherai_becomes_sets_of_the_study():
    sets = imported(read_listed(DATA / "eleutherai", "eleutherai"))
    assert as_dict(sets) == {PARIS: {(2, 5), (0, 7)}, BERLIN: set(), ROME: {(1, 1)}}
    assert (sets.languages, sets.shape, sets.not_searched, sets.model) == (["en"], (3, 8), [], "tiny")
    assert sets.table["score"].isna().all()
    assert sets.origin["imported"] == {"format": "some", "n_keys": 4, "n_known": 3}


def test_one_file_leaves_the_other_facts_unsearched_not_empty():
    path = DATA / "eleutherai" / "bert-base-uncased_pararel_neurons_0.json"
    sets = imported(read_listed(path, "eleutherai"))
    assert sets.is_searched(BERLIN, "en") and not sets.is_searched(ROME, "en")
    assert sets.not_searched == [(ROME, "en")]


def test_amig_neurons_count_once_and_its_results_hold_the_same_entry():
    sets = imported(read_listed(DATA / "amig", "amig", ["all"]))
    assert sets.languages == ["all"] and as_dict(sets, "zh") == {PARIS: {(2, 5), (0, 7)}, BERLIN: set()}
    assert len(sets.table) == 2
    results = imported(read_listed(DATA / "amig" / "pararel_results_0.json", "amig", ["en"]))
    assert as_dict(results) == {ROME: {(1, 1)}}


def test_imported_sets_are_read_as_a_selection_of_their_model(tmp_path):
    sets = imported(read_listed(DATA / "eleutherai", "eleutherai"))
    path = tmp_path / "neurons" / "tiny" / "theirs.parquet"
    path.parent.mkdir(parents=True)
    write_table(sets.table, path, sets.metadata)
    again = read_neuron_sets(path)
    assert again.metadata == sets.metadata and as_dict(again) == as_dict(sets)


MISTAKES = [
    ("eleutherai", {"u": [2, 5, 0, 7]}, r"the entry u is a flat list of numbers \(\[2, 5, 0, 7\]\); expected .* pairs"),
    ("eleutherai", {"u": [[2, 5], [0]]}, r"entry 1 is \[0\]"),
    ("eleutherai", {"u": [[2, 5.0]]}, r"entry 0 is \[2, 5\.0\]"),
    ("eleutherai", {"u": [[True, 5]]}, r"entry 0 is \[True, 5\]"),
    ("eleutherai", {"u": [[-1, 5]]}, r"entry 0 is \[-1, 5\].* counted from 0"),
    ("eleutherai", {"u": "2, 5"}, "the entry u is '2, 5'"),
    ("eleutherai", [[2, 5]], "expected one JSON object"),
    ("eleutherai", {"u": {"suppression": {}}}, "a file of results, not of neurons"),
    ("eleutherai", {"u": {"neurons": [], "relation_name": "P36"}}, "set format to amig"),
    ("amig", {"u": [[2, 5]]}, "plain lists has the format eleutherai"),
    ("amig", {"u": {"relation_name": "P36"}}, "no object with the key 'neurons'"),
]


@pytest.mark.parametrize(("form", "content", "sentence"), MISTAKES)
def test_a_file_of_another_form_is_a_sentence(tmp_path, form, content, sentence):
    (tmp_path / "file.json").write_text(json.dumps(content))
    with pytest.raises(AtlasError, match=sentence):
        read_listed(tmp_path / "file.json", form, ["en"])


def test_files_that_are_missing_doubled_or_without_a_language_are_sentences(tmp_path):
    with pytest.raises(AtlasError, match=r"has no file pararel_neurons_\*\.json"):
        read_listed(tmp_path, "amig", ["en"])
    for i in range(2):
        write_json({"u": [[0, 1]]}, tmp_path / f"x_pararel_neurons_{i}.json")
    with pytest.raises(AtlasError, match=r"u stands in .*_0\.json and in .*_1\.json"):
        read_listed(tmp_path, "eleutherai")
    with pytest.raises(AtlasError, match="no language named for the format amig"):
        read_listed(DATA / "amig", "amig")
    with pytest.raises(AtlasError, match=r"is 'amgi'.*Did you mean 'amig'"):
        read_listed(tmp_path, "amgi")


def test_neurons_outside_of_the_model_are_counted_and_layers_from_1_are_suspected_only_then():
    def listed(*neurons):
        return [listed_set(UUIDS[0], "en", [list(pair) for pair in neurons], "FILE")]

    with pytest.raises(AtlasError, match=r"2 of its 3 neurons .* \[1, 8\].* indices 0 to 7.* of another model"):
        imported(listed((0, 1), (1, 8), (3, 0)))
    with pytest.raises(AtlasError, match=r"1 of its 2 neurons .* \[3, 0\].* layers 0 to 2 .* counted from 1"):
        imported(listed((1, 1), (3, 0)))
    with pytest.raises(AtlasError, match="of another model"):
        imported(listed((0, 1), (3, 0)))
    # nothing in these numbers shows from where they count
    assert as_dict(imported(listed((1, 1), (2, 0)))) == {PARIS: {(1, 1), (2, 0)}}


def test_keys_of_another_study_are_a_sentence_and_two_keys_of_one_fact_too():
    listed = read_listed(DATA / "eleutherai", "eleutherai")
    with pytest.raises(AtlasError, match=r"none of its 4 keys \('1111.*1', \.\.\.\) .* 3 facts .* 'P36:Q142>Q90'"):
        imported(listed, keys={})
    with pytest.raises(AtlasError, match=f"two of its keys mean the fact {PARIS}"):
        imported(listed, keys=dict.fromkeys(UUIDS, PARIS))


def test_uuids_are_known_by_identities_else_by_labels_that_one_fact_has():
    folders = [DATA / "multilingual_pararel", DATA / "pararel"]
    own = {fact: fact for fact in FACTS}
    assert keys_of(facts_table(), FACTS, folders) == own | KEYS
    assert keys_of(facts_table(), FACTS[:2], folders) == {f: f for f in FACTS[:2]} | dict(list(KEYS.items())[:2])
    # two uuids are Germany's, Italy is not listed, and Peru is no fact of the study
    assert keys_of(facts_table(), FACTS, folders[1:]) == own | {UUIDS[0]: PARIS}
    assert keys_of(facts_table(language="fr"), FACTS, folders[1:]) == own


def test_facts_of_context_pararel_are_named_by_their_uuids():
    facts = [f"P36:{uuid}" for uuid in UUIDS]
    assert keys_of(facts_table(facts), facts) == {fact: fact for fact in facts} | dict(zip(UUIDS, facts, strict=True))


@pytest.mark.parametrize("name", ["mapping.csv", "mapping.json"])
def test_a_mapping_adds_the_keys_of_the_study_s_facts(name):
    assert keys_of(facts_table(), FACTS, [], [DATA / name]) == {fact: fact for fact in FACTS} | {"our-france": PARIS}


def test_mistakes_in_a_mapping_are_sentences(tmp_path):
    path = tmp_path / "mapping.csv"
    cases = {
        "key,fact\na,P36:Q142-Q90\n": r"none of its 1 facts \('P36:Q142-Q90', .*Did you mean 'P36:Q142>Q90'",
        f"key,fact\na,{PARIS}\na,{ROME}\n": "names the key a twice",
        f"uuid,fact\na,{PARIS}\n": "has no column 'key'",
    }
    for content, sentence in cases.items():
        path.write_text(content)
        with pytest.raises(AtlasError, match=sentence):
            keys_of(facts_table(), FACTS, [], [path])


def write_lape(path, n_languages=7, n_layers=3):
    """What LAPE's identify.py saves: a list of lists of tensors, some of them empty."""
    tensors = [
        [torch.tensor([i, i + 1] if layer == 1 else []).long() for layer in range(n_layers)] for i in range(n_languages)
    ]
    torch.save(tensors, path)
    return path


def test_lape_has_one_set_per_language_that_stands_for_all_facts(tmp_path):
    path = write_lape(tmp_path / "tiny.neuron.pth")
    sets = imported(language_sets(read_index_lists(path), 3, "FILE"))
    assert (sets.facts, sets.languages) == (["all"], list(LANGUAGES))
    assert as_dict(sets, "zh") == {"all": {(1, 1), (1, 2)}}
    ours = sets_of({(PARIS, "zh"): {(1, 1): 1.0}, (ROME, "zh"): {(0, 1): 1.0}}, languages=["zh"], facts=[PARIS, ROME])
    rows = compare_pairs([(ours, sets)], resamples=50).set_index("statistic")
    assert rows.loc["share_of_selection", ["value", "n"]].tolist() == [0.5, 2]
    assert set(rows["language"]) == {"zh"}


def test_lape_files_of_another_model_or_with_other_languages_are_sentences(tmp_path):
    lists = read_index_lists(write_lape(tmp_path / "six.pth", n_languages=6))
    with pytest.raises(AtlasError, match="holds neurons of 6 languages, but 7 are named"):
        language_sets(lists, 3, "FILE")
    assert [part.language for part in language_sets(lists, 3, "FILE", LANGUAGES[:6])] == list(LANGUAGES[:6])
    with pytest.raises(AtlasError, match="lists for 3 layers; the model has 4"):
        language_sets(lists, 4, "FILE", LANGUAGES[:6])


class Marker:
    """Makes a file when its pickle is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_lape_file_with_anything_but_tensors_is_not_read(tmp_path):
    marker = tmp_path / "was_run"
    torch.save([[Marker(marker)]], tmp_path / "bad.pth")
    with pytest.raises(AtlasError, match="holds more than tensors of numbers, which could run code"):
        read_index_lists(tmp_path / "bad.pth")
    assert not marker.exists()
    torch.load(tmp_path / "bad.pth", weights_only=False)
    assert marker.exists(), "the pickle of this test does nothing, so nothing was tested"
    for content, sentence in (
        ({"en": []}, "is a dict"),
        ([[torch.tensor([0.5])]], "language 0, layer 0 holds no"),
        ([[torch.tensor([-1])]], "counted from 0"),
    ):
        torch.save(content, tmp_path / "odd.pth")
        with pytest.raises(AtlasError, match=sentence):
            read_index_lists(tmp_path / "odd.pth")


def test_what_is_exported_is_imported_as_the_same_neurons_under_uuids(tmp_path):
    sets = sets_of({(PARIS, "en"): {(2, 5): 0.1, (0, 7): 0.9}, (ROME, "en"): {}}, not_searched=[(BERLIN, "en")])
    exported = export_sets(sets, "en", {fact: uuid for uuid, fact in KEYS.items()})
    assert exported == {UUIDS[0]: [[0, 7], [2, 5]], UUIDS[2]: []}  # the largest score first
    write_json(exported, tmp_path / "x.json")
    assert as_dict(imported(read_listed(tmp_path / "x.json", "eleutherai"))) == as_dict(sets)
    with pytest.raises(AtlasError, match="language to export is 'ja'"):
        export_sets(sets, "ja")


def test_sets_of_another_study_keep_their_scores_and_controls_are_refused(tmp_path):
    sets = sets_of({(PARIS, "en"): {(2, 5): 0.1, (0, 7): 0.9}, (BERLIN, "en"): {}}, not_searched=[(ROME, "en")])
    write_table(sets.table, tmp_path / "a.parquet", sets.metadata)
    again = imported(read_listed(tmp_path / "a.parquet", "atlas"), keys={fact: fact for fact in FACTS})
    assert again.selection == "theirs" and again.not_searched == [(ROME, "en")]
    pd.testing.assert_frame_equal(again.table.drop(columns="selection"), sets.table.drop(columns="selection"))
    drawn = sets_of({}, n_draws=2)
    write_table(drawn.table, tmp_path / "b.parquet", drawn.metadata)
    with pytest.raises(AtlasError, match="holds 2 draws"):
        read_listed(tmp_path / "b.parquet", "atlas")


FIRST = sets_of(
    {
        (PARIS, "en"): {(0, 0): 4.0, (0, 1): 3.0, (1, 2): 2.0, (2, 3): 1.0},
        (BERLIN, "en"): {(1, 1): 1.0},
        (ROME, "en"): {},
    }
)
SECOND = sets_of(
    {(PARIS, "all"): {(0, 0): 7.0, (0, 1): 8.0, (1, 2): 6.0, (2, 4): 9.0}, (ROME, "all"): {}},
    "theirs",
    ["all"],
    not_searched=[(BERLIN, "all")],
)


def compared(first, second, **settings):
    return compare_pairs([(first, second)], resamples=200, **settings).set_index("statistic")


def test_comparison_of_two_small_sets_by_hand():
    rows = compared(FIRST, SECOND)
    assert rows[["model", "selection", "other", "language"]].drop_duplicates().values.tolist() == [
        ["tiny", "ours", "theirs", "en"]
    ]
    expected = {
        "jaccard": (3 / 5, 1),  # Rome's sets are both empty, Berlin was searched by one
        "share_of_selection": (3 / 4, 1),
        "share_of_other": (3 / 4, 1),
        "rank_correlation": (0.5, 1),  # ranks 3 2 1 against 2 3 1
        "size_of_selection": (2, 2),
        "size_of_other": (2, 2),
        "layer_distance": (0, 2),  # both have 2, 1, 1
        "coverage": (2 / 3, 3),
    }
    found = {name: (rows.loc[name, "value"], rows.loc[name, "n"]) for name in expected}
    assert found == {name: pytest.approx(value) for name, value in expected.items()}


def test_layer_profiles_and_their_distance_by_hand():
    second = sets_of({(PARIS, "en"): {(2, 0): 1.0, (2, 1): 1.0}, (BERLIN, "en"): {}, (ROME, "en"): {(0, 1): 1.0}}, "b")
    profiles = layer_profiles([(FIRST, second)], resamples=50)
    shares = profiles.pivot(index="layer", columns="selection", values="value")
    assert shares["ours"].tolist() == pytest.approx([2 / 5, 2 / 5, 1 / 5])
    assert shares["b"].tolist() == pytest.approx([1 / 3, 0, 2 / 3])
    assert profiles["n_neurons"].tolist() == [2, 2, 1, 1, 0, 2]
    assert compared(FIRST, second).loc["layer_distance", "value"] == pytest.approx(7 / 15)


def test_chance_is_the_exact_mean_over_random_sets_of_the_same_layers():
    found = {(f"f{i}", "en"): {(0, j): 1.0 for j in range(4)} for i in range(400)}
    sets = sets_of(found, facts=[fact for fact, _ in found])
    shared = np.arange(5)
    exact = float(np.sum(hypergeom.pmf(shared, 8, 4, 4) * shared / (8 - shared)))
    rows = compared(sets, sets)
    error = 0.25 / np.sqrt(400 * N_RANDOM)  # the Jaccard index lies between 0 and 1: its deviation is below 0.25 here
    assert rows.loc["jaccard_chance", "value"] == pytest.approx(exact, abs=4 * error)
    assert rows.loc["jaccard", "value"] == 1
    assert rows.loc["jaccard_above_chance", "value"] == pytest.approx(1 - rows.loc["jaccard_chance", "value"])


def test_random_sets_of_the_same_layers_are_at_chance_and_related_ones_above():
    random, n = np.random.default_rng(3), 300
    names = [f"f{i}" for i in range(n)]

    def drawn():
        return {(name, "en"): {(1, int(j)): 1.0 for j in random.choice(30, 6, replace=False)} for name in names}

    first = sets_of(drawn(), facts=names, shape=(3, 30))
    unrelated = compared(first, sets_of(drawn(), "b", facts=names, shape=(3, 30))).loc["jaccard_above_chance"]
    assert unrelated["lo"] < 0 < unrelated["hi"] and abs(unrelated["value"]) < 0.02
    half = {key: dict(list(neurons.items())[:3]) for key, neurons in drawn().items()}
    for fact in names:
        layers, indices = first.of(fact, "en")
        half[fact, "en"] |= {(int(layer), int(i)): 1.0 for layer, i in zip(layers[:3], indices[:3], strict=True)}
    related = compared(first, sets_of(half, "b", facts=names, shape=(3, 30))).loc["jaccard_above_chance"]
    assert related["lo"] > 0.15


def test_sets_without_anything_in_common_to_compare_have_no_values():
    empty = sets_of({}, "b")
    rows = compared(empty, empty)
    assert rows.loc["jaccard", "n"] == 0 and np.isnan(rows.loc[["jaccard", "layer_distance"], "value"]).all()
    assert compare_facts(FIRST, empty, "en").first.tolist() == [[2, 1, 1], [0, 1, 0], [0, 0, 0]]
    unscored = sets_of({(PARIS, "en"): dict.fromkeys([(0, 0), (0, 1), (1, 2)], np.nan)}, "b")
    two_shared = sets_of({(PARIS, "en"): {(0, 0): 1.0, (0, 1): 2.0}}, "b")
    equal = sets_of({(PARIS, "en"): dict.fromkeys([(0, 0), (0, 1), (1, 2)], 1.0)}, "b")
    assert [compared(FIRST, other).loc["rank_correlation", "n"] for other in (unscored, two_shared, equal)] == [0, 0, 0]


def test_sets_of_two_models_or_of_other_languages_are_not_compared():
    with pytest.raises(AtlasError, match=r"sets of tiny \(3, 8\) and tiny \(4, 8\)"):
        compare_pairs([(FIRST, sets_of({}, shape=(4, 8)))])
    with pytest.raises(AtlasError, match=r"no language in common \(en; fi ko\)"):
        compare_pairs([(FIRST, sets_of({}, languages=["fi", "ko"]))])
