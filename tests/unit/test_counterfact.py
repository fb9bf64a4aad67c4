"""Records in CounterFact's form: read with sentences for mistakes, and made from facts and templates."""

import json
from pathlib import Path

import pandas as pd
import pytest

from knatlas.errors import AtlasError
from knatlas.facts.counterfact import as_counterfact, counterfact_of_facts, facts_known, read_counterfact
from knatlas.facts.table import TEMPLATE_COLUMNS, fact_id

RECORDS = Path(__file__).parents[1] / "data" / "counterfact" / "records.json"


def written(folder, change):
    """A copy of the hand-written records after a change of their content."""
    content = json.loads(RECORDS.read_text())
    change(content)
    path = folder / "counterfact.json"
    path.write_text(json.dumps(content))
    return path


def test_records_are_read_in_the_order_of_the_file():
    records = read_counterfact(RECORDS)
    assert [record.case for record in records] == [7, 3, 5]
    first = records[0]
    assert (first.fact, first.relation, first.subject) == ("7", "P103", "Jeanne Moulin")
    assert (first.target_true, first.target_new) == ("French", "Finnish")
    assert first.rewrite == "The mother tongue of Jeanne Moulin is"
    assert [kind for kind, _, _ in first.prompts] == ["rewrite", *["paraphrase"] * 2, *["neighborhood"] * 2]
    assert first.prompts[2] == ("paraphrase", 1, "Since then.\nJeanne Moulin spoke the language")


def test_only_the_first_records_are_taken_and_fewer_than_asked_are_all():
    assert [record.case for record in read_counterfact(RECORDS, 2)] == [7, 3]
    assert len(read_counterfact(RECORDS, 1000)) == 3
    with pytest.raises(AtlasError, match="records is 0"):
        read_counterfact(RECORDS, 0)


def test_a_mistake_behind_the_first_n_is_not_looked_at(tmp_path):
    path = written(tmp_path, lambda content: content[2].pop("case_id"))
    assert len(read_counterfact(path, 2)) == 2
    with pytest.raises(AtlasError, match="record 3: case_id is None; expected a whole number"):
        read_counterfact(path)


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("prompt", "The mother tongue is", r"prompt 'The mother tongue is' has \{\} 0 times; expected it once"),
        ("prompt", "{} and {}", r"prompt .* has \{\} 2 times"),
        ("subject", "", "subject is ''; expected a text that is not empty"),
        ("subject", "Jeanne ", "subject is 'Jeanne '; expected a text without blanks"),
        ("relation_id", None, "relation_id is None"),
        ("target_true", {"id": "Q150"}, "target_true.str is None"),
        ("target_new", {"str": " Finnish"}, "target_new.str is ' Finnish'; expected a text without blanks"),
        ("target_new", {"str": "French"}, "target_new is 'French', the true target"),
    ],
)
def test_a_mistake_in_a_rewrite_is_a_sentence_with_record_and_field(tmp_path, key, value, sentence):
    path = written(tmp_path, lambda content: content[0]["requested_rewrite"].update({key: value}))
    with pytest.raises(AtlasError, match=f"record 1: requested_rewrite: {sentence}"):
        read_counterfact(path)


def test_every_mistake_has_its_sentence(tmp_path):
    def change(content):
        content[0]["case_id"] = "7"
        content[1]["requested_rewrite"] = "text"
        content[2]["paraphrase_prompts"] = ["", "text"]
        content.append([])

    with pytest.raises(AtlasError) as error:
        read_counterfact(written(tmp_path, change))
    lines = str(error.value).splitlines()
    assert len(lines) == 4
    for line, field in zip(lines, ["case_id", "requested_rewrite", "paraphrase_prompts", "not an object"], strict=True):
        assert field in line


def test_at_most_ten_sentences_are_told_and_the_others_counted(tmp_path):
    def change(content):
        content[:] = [{**content[0], "case_id": None} for _ in range(14)]

    with pytest.raises(AtlasError) as error:
        read_counterfact(written(tmp_path, change))
    assert str(error.value).splitlines()[-1] == "... and 4 more." and len(str(error.value).splitlines()) == 11


def test_a_case_may_be_there_once_only(tmp_path):
    path = written(tmp_path, lambda content: content[2].update(case_id=7))
    with pytest.raises(AtlasError, match="record 3: case_id 7 is that of record 1"):
        read_counterfact(path)


@pytest.mark.parametrize(("text", "sentence"), [("[{", "is not JSON"), ("{}", "no list"), ("[]", "no list")])
def test_a_file_of_another_form_is_refused(tmp_path, text, sentence):
    path = tmp_path / "counterfact.json"
    path.write_text(text)
    with pytest.raises(AtlasError, match=sentence):
        read_counterfact(path)
    with pytest.raises(AtlasError, match="is not there"):
        read_counterfact(tmp_path / "other.json")


def test_written_records_are_read_as_they_were(tmp_path):
    records, path = read_counterfact(RECORDS), tmp_path / "counterfact.json"
    path.write_text(as_counterfact(records))
    assert read_counterfact(path) == records


def test_the_sample_of_the_data_set_is_read_as_its_description_counts(shared_data):
    records = read_counterfact(shared_data / "counterfact" / "counterfact_500.json")
    assert len(records) == 500 and len({record.relation for record in records}) == 34
    assert all(" " not in target for record in records for target in (record.target_true, record.target_new))
    assert all(record.subject in text for record in records for text in record.paraphrases)
    assert all((len(record.paraphrases), len(record.neighbours)) == (2, 10) for record in records)
    assert sum(record.target_true in record.subject for record in records) == 41
    assert sum(any("\n" in text for text in record.paraphrases) for record in records) == 155
    assert sum(len(set(record.neighbours)) < 10 for record in records) == 3
    assert sum(record.prompt.startswith("{}") for record in records) == 399


PAIRS = {
    "P17": {"Nice": "France", "Lyon": "France", "Lille": "France", "Oulu": "Finland", "Pest": "Hungary"},
    "P36": {"France": "Paris", "Finland": "Helsinki", "Hungary": "Budapest"},
    "P99": {"Alone": "One"},
}
PATTERNS = {
    "P17": ["[Y] is where [X] lies.", "[X] is a town in [Y].", "[X] lies in [Y]", "In [Y] lies [X]"],
    "P36": ["The capital of [X] is [Y]."],
    "P99": ["[X] has [Y]"],
}


def facts(extra=()):
    rows = [(relation, s, o) for relation, pairs in PAIRS.items() for s, o in pairs.items()] + list(extra)
    names = ["fact", "relation", "subject", "object", "language", "subject_label", "object_label"]
    ids = [(fact_id(r, s.lower(), o.lower()), r, s.lower(), o.lower()) for r, s, o in rows]
    return pd.DataFrame([(*i, "en", s, o) for i, (_, s, o) in zip(ids, rows, strict=True)], columns=names)


def templates(patterns=PATTERNS):
    rows = [(relation, "en", n, text, False) for relation, texts in patterns.items() for n, text in enumerate(texts)]
    return pd.DataFrame(rows, columns=TEMPLATE_COLUMNS)


def made(seed=0, n=None, asked=None, extra=(), **changes):
    return counterfact_of_facts(facts(extra), templates(**changes), seed, n, "en", asked)


def by_fact(records):
    return {record.fact: record for record in records}


def test_a_record_has_the_first_final_template_as_rewrite_and_the_others_as_paraphrases():
    record = by_fact(made())["P17:nice>france"]
    assert record.prompt == "{} is a town in" and record.rewrite == "Nice is a town in"
    assert record.paraphrases == ("Nice lies in",)
    assert (record.target_true, record.true_id) == ("France", "france")


def test_neighbours_are_other_subjects_of_the_true_object_over_the_templates_in_turn():
    record = by_fact(made())["P17:nice>france"]
    assert set(record.neighbours) in ({"Lyon is a town in", "Lille lies in"}, {"Lille is a town in", "Lyon lies in"})


def test_a_relation_without_shared_objects_has_no_neighbours():
    assert all(record.neighbours == () for record in made() if record.relation == "P36")


def test_a_fact_without_another_object_makes_no_record():
    assert {record.relation for record in made()} == {"P17", "P36"} and len(made()) == 8


def test_the_new_object_is_another_one_of_the_relation_and_depends_on_the_seed():
    drawn = [{r.fact: r.target_new for r in made(seed)} for seed in range(12)]
    assert drawn[0] == {r.fact: r.target_new for r in made(0)}
    assert {draw["P36:france>paris"] for draw in drawn} == {"Helsinki", "Budapest"}
    assert all(draw["P17:oulu>finland"] in ("France", "Hungary") for draw in drawn)


def test_the_new_object_is_not_true_by_another_fact_and_not_in_the_subject():
    extra = [("P17", "Nice", "Finland"), ("P17", "Hungary Street", "Finland")]
    for seed in range(12):
        records = by_fact(made(seed, extra=extra))
        assert records["P17:nice>france"].target_new == "Hungary"
        assert records["P17:hungary street>finland"].target_new == "France"


def test_no_neighbour_has_the_new_object_too():
    extra = [("P17", "Lyon", "Finland"), ("P17", "Lyon", "Hungary")]
    neighbours = by_fact(made(extra=extra))["P17:nice>france"].neighbours
    assert neighbours == ("Lille is a town in",)


def test_at_most_ten_neighbours_are_taken():
    extra = [("P17", f"Town{i}", "France") for i in range(20)]
    assert len(by_fact(made(extra=extra))["P17:nice>france"].neighbours) == 10


def test_records_are_spread_evenly_over_the_relations():
    assert sorted(record.relation for record in made(n=6)) == ["P17"] * 3 + ["P36"] * 3
    assert [record.case for record in made(n=6)] == list(range(6))
    assert made(n=6) == made()[:6]


def test_only_facts_that_are_asked_make_records_but_others_lend_subjects():
    (record,) = made(asked=["P17:nice>france"])
    assert record.fact == "P17:nice>france" and len(record.neighbours) == 2


def test_without_a_usable_template_or_fact_there_is_a_sentence():
    with pytest.raises(AtlasError, match="none of the 9 facts in en"):
        made(patterns={"P17": ["In [Y] lies [X]"]})
    with pytest.raises(AtlasError, match="0 of them known"):
        made(asked=["P17:other>fact"])


def test_records_of_facts_are_written_in_the_form_that_is_read(tmp_path):
    path = tmp_path / "counterfact.json"
    path.write_text(as_counterfact(made()))
    assert read_counterfact(path) == made()


def test_known_facts_are_those_that_all_or_any_of_the_models_answer_in_the_first_query():
    columns = ["fact", "language", "query", "is_argmax"]
    one = [
        ("a", "en", 0, True),
        ("a", "en", 1, False),
        ("b", "en", 0, False),
        ("b", "en", 1, True),
        ("c", "fi", 0, True),
    ]
    other = [("a", "en", 0, True), ("b", "en", 0, True), ("c", "en", 0, False)]
    tables = [pd.DataFrame(rows, columns=columns) for rows in (one, other)]
    assert facts_known(tables) == ["a"]
    assert facts_known(tables, by="any") == ["a", "b"]
    assert facts_known(tables, by="none") is None and facts_known([]) is None
    with pytest.raises(AtlasError, match="known_by is 'al'"):
        facts_known(tables, by="al")
