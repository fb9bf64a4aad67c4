"""The multilingual PARAREL: ids of its facts, Chinese from mParaRel, its errors, and the counts of the real data."""

import json
import shutil

import pytest

from knatlas.catalog import read_catalog
from knatlas.errors import AtlasError
from knatlas.facts.composition import compose
from knatlas.facts.identities import match_identities
from knatlas.facts.multilingual_pararel import read_entries, read_multilingual_pararel
from knatlas.facts.prompts import build_prompts
from knatlas.statistics.printed import beside_paper

SEVEN = ["en", "fr", "zh", "fi", "hu", "ja", "ko"]
FOLDERS = ("multilingual_pararel", "pararel", "mpararel")


@pytest.fixture
def folders(root, tmp_path):
    """Copies of the three data sets."""
    return [shutil.copytree(root / "tests" / "data" / name, tmp_path / name) for name in FOLDERS]


def totals(steps):
    return steps[steps["language"] == "all"].set_index("name")


def test_objects_and_templates_are_its_own_and_subjects_of_mpararel(folders):
    facts, templates, _ = read_multilingual_pararel(*folders, ["en", "ja"])
    tokyo = facts[facts["fact"] == "P36:Q17>Q1490"].set_index("language")
    assert tokyo["object_label"].to_dict() == {"en": "Tokyo", "ja": "東京"}  # mParaRel has 東京都
    assert tokyo["subject_label"].to_dict() == {"en": "Japan", "ja": "日本"}
    assert facts[facts["fact"] == "P36:Q38>Q220"]["subject_label"].tolist() == ["Italy", "イタリア 共和国"]
    assert templates["pattern"].tolist() == [
        "The capital of [X] is [Y].",
        "[X] is ruled from [Y].",
        "[X]の首都名は[Y]。",
        "[Y]から[X]を治める。",
    ]
    assert templates["template"].tolist() == [0, 1, 0, 1]


def test_chinese_comes_from_mpararel(folders):
    facts, templates, _ = read_multilingual_pararel(*folders, ["zh", "en"])
    rome = facts[facts["fact"] == "P36:Q38>Q220"]
    assert rome[["language", "subject_label", "object_label"]].values.tolist() == [
        ["zh", "意大利", "羅馬"],
        ["en", "Italy", "Rome"],
    ]
    chinese = templates[templates["language"] == "zh"]
    assert chinese["pattern"].tolist() == ["[X]的首都叫[Y]", "[Y] ，[X] 的首都"]


def test_every_step_is_counted_with_ids_from_the_files(folders):
    _, _, steps = read_multilingual_pararel(*folders, SEVEN)
    all_languages = totals(steps)
    assert all_languages["facts"].to_dict() == {
        "read": 6,
        "identified": 6,
        "labelled": 6,
        "labels": 6,
        "patterns": 6,
        "twins": 6,
        "parallel": 5,
        "templates": 3,
    }
    assert "read from the data set's files" in all_languages.loc["identified", "sentence"]
    assert all_languages.loc["templates", "sentence"].endswith("dropped: P37")
    labelled = steps[steps["name"] == "labelled"].set_index("language")["facts"]
    assert labelled[SEVEN].tolist() == [6, 6, 5, 6, 6, 6, 6]


def test_ids_are_matched_by_labels_where_the_files_are_missing(folders):
    exact = read_multilingual_pararel(*folders, SEVEN)
    shutil.rmtree(folders[0] / "identities")
    matched = read_multilingual_pararel(*folders, SEVEN)
    assert totals(matched[2])["facts"].tolist() == [6, 5, 5, 5, 5, 5, 4, 3]
    assert "matched by labels" in totals(matched[2]).loc["identified", "sentence"]
    assert matched[0].equals(exact[0]) and matched[1].equals(exact[1])


def test_relations_can_be_chosen(folders):
    facts, _, steps = read_multilingual_pararel(*folders, ["en", "fi"], ["P36"])
    assert totals(steps)["facts"].tolist() == [4] * 8 and set(facts["relation"]) == {"P36"}


def entry(relation, obj, *sentences):
    return {"relation_name": relation, "obj_label": obj, "sentences": list(sentences)}


def matched(entries, labels, vocabulary=None, patterns=None):
    patterns = {"en": {"P1": ["[X] has [Y]."]}} if patterns is None else patterns
    return match_identities({"en": entries}, patterns, {"en": labels}, vocabulary or {})


LABELS = {
    ("P1", "Q1", "Q9"): ("Ann", "cat"),
    ("P1", "Q2", "Q9"): ("Bob", "cat"),
    ("P1", "Q3", "Q8"): ("Bob", "dog"),
}


def test_a_sentence_and_the_object_identify_a_fact():
    entries = {"a": entry("P1", "cat", "Bob has ."), "b": entry("P1", "dog", "Bob has .")}
    assert matched(entries, LABELS) == {"a": ("P1", "Q2", "Q9"), "b": ("P1", "Q3", "Q8")}


def test_the_vocabulary_identifies_a_fact_without_sentences():
    assert matched({"a": entry("P1", "cat")}, LABELS, {"a": "Ann"}) == {"a": ("P1", "Q1", "Q9")}
    assert matched({"a": entry("P1", "cat")}, LABELS) == {}


def test_subject_and_object_must_both_agree():
    assert matched({"a": entry("P1", "cow", "Bob has .")}, LABELS) == {}
    assert matched({"a": entry("P2", "cat", "Bob has .")}, LABELS) == {}


def test_a_tie_is_left_open_unless_another_fact_takes_one_side():
    twins = LABELS | {("P1", "Q4", "Q9"): ("Bob", "cat")}
    tie = {"a": entry("P1", "cat", "Bob has .")}
    assert matched(tie, twins) == {}
    two = {"en": twins, "fr": {**twins, ("P1", "Q4", "Q9"): ("Robert", "cat")}}
    entries = {
        "en": {**tie, "b": entry("P1", "cat", "Bob has .")},
        "fr": {"b": entry("P1", "cat", "Robert a .")},
    }
    patterns = {"en": {"P1": ["[X] has [Y]."]}, "fr": {"P1": ["[X] a [Y]."]}}
    assert match_identities(entries, patterns, two, {}) == {"b": ("P1", "Q4", "Q9"), "a": ("P1", "Q2", "Q9")}


def test_two_entries_never_share_a_fact():
    entries = {"a": entry("P1", "cat", "Ann has ."), "b": entry("P1", "cat", "Ann has .")}
    assert matched(entries, LABELS) == {}


def refused(*arguments):
    with pytest.raises(AtlasError) as caught:
        read_multilingual_pararel(*arguments)
    return str(caught.value)


def test_unknown_names_are_refused(folders):
    assert "is 'de'; expected a language of this source (en fr fi hu ja ko zh)" in refused(*folders, ["en", "de"])
    assert "is 'P63'; expected a relation of this source (P36 P37)" in refused(*folders, ["en"], ["P63"])
    assert "none is given" in refused(*folders, [])


@pytest.mark.parametrize(
    ("which", "inside", "expected"),
    [
        (0, "templates", "multilingual_pararel/templates is not there"),
        (0, "ja.json", "multilingual_pararel/ja.json is not there"),
        (0, "templates/fi.jsonl", "multilingual_pararel/templates/fi.jsonl is not there"),
        (1, "trex_lms_vocab", "pararel/trex_lms_vocab is not there"),
        (2, "t_rex_translation", "mpararel/t_rex_translation is not there"),
        (2, "tuples/hu", "the language asked for is 'hu'"),
    ],
)
def test_what_is_missing_is_named(folders, which, inside, expected):
    shutil.rmtree(folders[0] / "identities")
    path = folders[which] / inside
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert expected in refused(*folders, ["en", "zh"])


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda entries: entries["u2"].pop("obj_label"), "the entry u2 has no key 'obj_label'"),
        (lambda entries: entries["u2"].update(sentences="x"), "the entry u2: 'sentences' is \"x\"; expected a list"),
        (lambda entries: entries.update(u2=[]), "the entry u2 is no object"),
    ],
)
def test_a_broken_entry_is_named(folders, change, expected):
    path = folders[0] / "fr.json"
    entries = json.loads(path.read_text(encoding="utf-8"))
    change(entries)
    path.write_text(json.dumps(entries), encoding="utf-8")
    sentence = refused(*folders, ["en"])
    assert str(path) in sentence and expected in sentence


def test_broken_json_is_named_with_its_line(folders):
    (folders[0] / "fr.json").write_text('{"u1": {},\n "u2": }\n', encoding="utf-8")
    assert "fr.json is not JSON (Expecting value at line 2, column 8)" in refused(*folders, ["en"])


def test_a_template_without_its_slots_is_refused(folders):
    path = folders[0] / "templates" / "ko.jsonl"
    path.write_text('{"relation": "P36", "pattern": "[X] [X] [Y]"}\n', encoding="utf-8")
    assert f"{path}, line 1: the pattern '[X] [X] [Y]' has [X] 2 times" in refused(*folders, ["en"])


def test_no_fact_left_is_an_error_with_the_counts(folders):
    assert "parallel 2, templates 0" in refused(*folders, ["en", "ko"], ["P37"])


@pytest.fixture(scope="module")
def real(shared_data):
    return read_multilingual_pararel(*(shared_data / name for name in FOLDERS), SEVEN)


def test_real_facts_and_templates(shared_data, real):
    facts, templates, steps = real
    counts = totals(steps)["facts"]
    assert counts["read"] == 10091
    assert facts["relation"].nunique() == templates["relation"].nunique() == 32
    assert templates.groupby("language").size()[SEVEN].tolist() == [207, 183, 220, 153, 138, 159, 158]
    assert templates["pattern"].str.contains("[Y]", regex=False).all()
    labelled = steps[steps["name"] == "labelled"].set_index("language")["facts"]
    assert labelled[["en", "fr", "fi", "hu", "ja", "ko"]].nunique() == 1  # no subject lacks a label


def test_real_facts_with_ids_matched_by_labels(shared_data, real):
    """24 facts without sentences have objects that the vocabulary lacks: labels alone can't tell which they are."""
    if (shared_data / "multilingual_pararel" / "identities").is_dir():
        pytest.skip("the data at hand has the data set's own ids")
    counts = totals(real[2])["facts"]
    assert [counts[name] for name in ("identified", "parallel", "templates")] == [9439, 9227, 6455]


def test_real_facts_with_the_data_sets_own_ids(shared_data, real):
    if not (shared_data / "multilingual_pararel" / "identities").is_dir():
        pytest.skip("the data at hand lacks the data set's own ids (multilingual_pararel/identities)")
    counts = totals(real[2])["facts"]
    assert [counts[name] for name in ("identified", "parallel", "templates")] == [10091, 9877, 6456]


# Of the 9,877 facts with a native Chinese label, 3,421 are in relations without templates and have no query: they count
# too, as the averages of Table I of the MATRICE paper show (4.03, 3.37, 2.90, 2.60, 2.95, 3.02).
N_FACTS = 9877
QUERIES_PER_FACT = {"en": 4.03, "fr": 3.36, "fi": 2.89, "hu": 2.59, "ja": 2.94, "ko": 3.02}


@pytest.fixture(scope="module")
def composed(real):
    """The table of the build's composition, for masked models."""
    facts, templates, steps = real
    languages = {code: read_catalog("languages")[code] for code in SEVEN}
    prompts, _ = build_prompts(facts, templates, languages, "auto", 2, ("masked",))
    table = compose(facts, prompts, languages, cleaning=steps)
    return beside_paper(table, "matrice", 1).set_index(["statistic", "language"])


@pytest.fixture(scope="module")
def n_facts(real):
    """Facts of the build by relation."""
    return real[0].drop_duplicates("fact").groupby("relation").size()


@pytest.fixture(scope="module")
def stored_queries(shared_data, n_facts):
    """How many sentences the data set itself stores for the facts of the build, by language."""
    totals = {}
    for language in QUERIES_PER_FACT:
        entries = read_entries(shared_data / "multilingual_pararel" / f"{language}.json").values()
        numbers = {relation: set() for relation in n_facts.index}
        for entry in entries:
            if entry["relation_name"] in numbers:
                numbers[entry["relation_name"]].add(len(entry["sentences"]))
        assert all(len(found) == 1 for found in numbers.values())  # all facts of a relation have as many
        totals[language] = sum(n_facts[relation] * found.pop() for relation, found in numbers.items())
    return totals


def test_real_stored_queries_per_fact_are_those_known_of_the_data(stored_queries):
    measured = {language: n / N_FACTS for language, n in stored_queries.items()}
    assert measured == pytest.approx(QUERIES_PER_FACT, rel=0.01)


def test_real_queries_per_fact_of_the_build_are_those_known(composed, stored_queries):
    queries = composed.loc["queries", "value"]
    measured = {language: queries[language] / N_FACTS for language in QUERIES_PER_FACT}
    assert measured == pytest.approx(QUERIES_PER_FACT, rel=0.01)
    # every stored query is built, also those of Hungarian templates that differ by a comma alone
    assert {language: queries[language] for language in QUERIES_PER_FACT} == stored_queries


def test_real_facts_without_templates_count_where_the_ids_are_known(shared_data, composed):
    if not (shared_data / "multilingual_pararel" / "identities").is_dir():
        pytest.skip("the data at hand lacks the data set's own ids (multilingual_pararel/identities)")
    rows = composed.loc["queries_per_named_fact"]
    assert set(rows["n"]) == {N_FACTS}
    assert rows["value"][list(QUERIES_PER_FACT)].to_dict() == pytest.approx(QUERIES_PER_FACT, rel=0.01)


def test_real_lengths_are_those_printed(composed):
    """Six languages come from the precursor of the paper's data; Chinese does not, its templates are mParaRel's."""
    lengths = composed.loc["mean_length"]
    expected = [6.330, 6.852, 10.532, 5.002, 4.532, 19.739, 17.498]
    assert lengths["value"][SEVEN].tolist() == pytest.approx(expected, rel=0.001)
    own = lengths.drop("zh")
    assert (own["difference"].abs() / own["paper"]).max() < 0.02
    assert lengths["unit"][SEVEN].tolist() == ["words", "words", "characters", "words", "words", *["characters"] * 2]


def test_real_facts_and_relations_are_not_those_printed(composed):
    assert composed.loc[("relations", "all"), "value"] == 32  # the paper prints 8 relations for its 7,849 facts
    assert composed.loc[("facts", "all"), "value"] in (6455, 6456)  # the latter by the data set's own ids
