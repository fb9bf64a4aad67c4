"""The data card: every count, digest and licence of a build made by hand, the same text whenever it is written."""

import json
import shutil

import pandas as pd
import pytest
import yaml

from knatlas.catalog import read_catalog
from knatlas.facts.card import Build, data_card, markdown, totals
from knatlas.facts.download import digest
from knatlas.facts.parts import TERMS, read_parts, sha256_of
from knatlas.facts.prompts import build_prompts, mode_shares
from knatlas.facts.sources import READERS, read_source
from knatlas.facts.steps import Steps
from knatlas.study import read_study

FILES = {"facts.parquet": "f" * 64, "templates.parquet": "t" * 64, "prompts.parquet": "p" * 64}


def settings_of(source, languages, **facts):
    study = {"study": "small", "seed": 3, "languages": languages, "models": ["mbert", "mgpt"]}
    study = read_study({**study, "facts": {"source": source, **facts}})
    return {name: study[name] for name in ("study", "seed", "languages", "models", "facts", "prompts")}


def build_of(source, languages, folders=(), **changes):
    settings = settings_of(source, languages, **changes)
    facts, templates, cleaning = read_source(settings["facts"], languages, settings["seed"], list(folders))
    rows = {code: read_catalog("languages")[code] for code in languages}
    prompts, steps = build_prompts(facts, templates, rows, "auto", settings["facts"]["min_queries"])
    parts = read_parts(source, folders)
    return Build(settings, facts, templates, prompts, cleaning, steps, mode_shares(prompts), parts, FILES)


@pytest.fixture
def copy(root, tmp_path):
    """The hand-written extract of mParaRel in a folder of its own."""
    return shutil.copytree(root / "tests" / "data" / "mpararel", tmp_path / "data" / "mpararel")


@pytest.fixture
def card(copy):
    return data_card(build_of("mpararel", ["en", "fr", "zh"], [copy]))


@pytest.fixture(scope="module")
def embedded():
    return build_of("cldr", ["en", "fi", "ja"], relations=["P36", "P37"], facts_per_relation=10)


def section(card, title):
    return card.split(f"## {title}\n\n")[1].split("\n## ")[0]


def rows_of(text):
    """The cells of the lines of a Markdown table, by the first cell."""
    lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in lines}


def test_counts_of_the_build_and_digests_of_its_files(card):
    text = section(card, "What was built")
    assert "Facts: 3, the same in every language. Relations: 1. Languages: en fr zh." in text
    assert "Queries: 21 for causal models, 21 for masked models. Source: `mpararel`." in text
    rows = rows_of(text)
    assert rows["`facts.parquet`"] == ["15", "f" * 64]
    assert rows["`prompts.parquet`"][1] == "p" * 64


def test_every_step_says_what_it_dropped_and_why(card):
    text = section(card, "What each step dropped")
    rows = rows_of(text.split("Then queries:")[0])
    assert rows["parallel"][1] == str(int(rows["twins"][0]) - int(rows["parallel"][0])) != "0"
    assert rows["parallel"][-1] == "facts with both labels in every language"
    assert rows["templates"][-1].startswith("relations with a template in every language; dropped: ")
    queries = rows_of(text.split("Then queries:")[1])
    assert queries["parallel"][-1] == "facts with fewer than 2 prompts in some language dropped in all languages"
    assert queries["parallel"][:2] == ["3", "2"]


def test_drops_are_differences_of_the_steps_over_all_languages():
    steps = Steps()
    steps.add("read", "", facts=9, templates=4)
    steps.add("middle", "", templates=3)
    steps.add("end", "", facts=2)
    table = totals(steps.table())
    assert table["facts dropped"].tolist() == [pd.NA, 0, 7]
    assert table["templates dropped"].tolist() == [pd.NA, 1, 0]
    assert table["prompts"].isna().all()


def test_modes_are_shown_with_their_shares(card, copy):
    build = build_of("mpararel", ["en", "fr", "zh"], [copy])
    cued = build.modes.query("language == 'zh' and kind == 'causal' and mode == 'cued'").iloc[0]
    text = section(card, "How the queries were built")
    assert f"{cued['n']} ({cued['share']:.1%})" in text and "`ar_prompt: auto`" in text
    languages = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| ")]
    assert languages == ["language", "en", "en", "fr", "fr", "zh", "zh"]


def test_defects_are_counted_among_facts_that_have_queries(copy):
    build = build_of("mpararel", ["en", "fr", "zh"], [copy])
    text = section(data_card(build), "Known defects")
    assert "Facts with a mark, of 3 " in text and "left out by the study: none." in text
    facts = build.facts[build.facts["fact"].isin(build.prompts["fact"])]
    counts = facts[facts["language"] == "fr"]["same_as_english"].sum()
    assert counts > 0
    assert rows_of(text)["same_as_english"][:4] == ["0", str(counts), "0", str(counts)]


def test_marks_that_the_study_excludes_are_named(copy):
    build = build_of("mpararel", ["en", "fr", "zh"], [copy], exclude_marks=["has_brackets", "latin_object"])
    text = section(data_card(build), "Known defects")
    assert "left out by the study: has_brackets latin_object." in text
    assert rows_of(text)["latin_object"][:4] == ["0", "0", "0", "0"]


def test_a_data_set_stands_with_commit_licence_and_the_digest_of_the_files_read(card, copy):
    row = read_catalog("datasets")["mpararel"]
    cells = rows_of(section(card, "What it is made of"))["mParaRel"]
    assert cells[:3] == [f"github.com/{row['repository']}", row["commit"], row["licence"]]
    assert cells[3] == digest(copy)
    assert cells[4].startswith("a copy at hand, not downloaded by the workflow; NOT the files expected (380e363e")


def with_row(monkeypatch, **values):
    monkeypatch.setitem(read_catalog("datasets"), "mpararel", {**read_catalog("datasets")["mpararel"], **values})


def remark_on(copy):
    return read_parts("mpararel", [copy])[0].remark


def test_a_data_set_as_the_catalog_expects_it_is_said_to_be_so(copy, monkeypatch):
    with_row(monkeypatch, sha256=digest(copy))
    assert remark_on(copy) == "a copy at hand, not downloaded by the workflow; as expected"
    (copy / "patterns" / "more.txt").write_text("more")
    assert "NOT the files expected" in remark_on(copy) and "files missing or added" in remark_on(copy)


def test_without_a_digest_in_the_catalog_that_of_the_download_counts(copy, monkeypatch):
    with_row(monkeypatch, sha256=None)
    assert remark_on(copy) == "a copy at hand, not downloaded by the workflow; no digest to compare with"
    record = copy.with_name("mpararel.download.json")
    record.write_text(json.dumps({"sha256": digest(copy)}), encoding="utf-8")
    assert remark_on(copy) == "downloaded by the workflow; as expected"
    record.write_text(json.dumps({"sha256": "0" * 64}), encoding="utf-8")
    assert remark_on(copy).startswith("downloaded by the workflow; NOT the files expected (000")


def test_the_embedded_source_stands_with_its_versions_and_own_lists(embedded, root):
    rows = rows_of(section(data_card(embedded), "What it is made of"))
    assert "Babel 2.18.0 (BSD-3-Clause)" in rows["Unicode CLDR"][0]
    assert rows["Unicode CLDR"][1:3] == ["CLDR 47", "Unicode License v3"]
    assert rows["templates"][3] == digest(root / "catalog" / "templates")
    assert rows["capitals"][3] == sha256_of(root / "catalog" / "capitals.yaml")


def test_terms_are_those_of_the_source(card, embedded):
    assert section(card, "Who may use it").strip() == TERMS["mpararel"]
    assert "Do not redistribute" in TERMS["mpararel"] and "do not redistribute" in TERMS["multilingual_pararel"]
    assert section(data_card(embedded), "Who may use it").strip() == TERMS["cldr"]
    assert set(TERMS) == set(READERS)


def test_the_recipe_gives_the_same_settings_again(embedded):
    text = section(data_card(embedded), "How to build it again")
    study = yaml.safe_load(text.split("```yaml\n")[1].split("```")[0])
    again = read_study(study)
    assert {name: again[name] for name in embedded.settings} == embedded.settings
    assert "`snakemake --configfile my-study.yaml --cores 1 data`" in text


def test_no_path_of_the_machine_and_the_same_text_again(copy, card, tmp_path):
    build = build_of("mpararel", ["en", "fr", "zh"], [copy], folder=str(copy.parent))
    assert str(tmp_path) not in data_card(build)
    assert data_card(build) == card


def test_a_build_of_several_data_sets_lists_them_all(root):
    names = ["multilingual_pararel", "pararel", "mpararel"]
    build = build_of("multilingual_pararel", ["en", "zh", "ko"], [root / "tests" / "data" / name for name in names])
    rows = rows_of(section(data_card(build), "What it is made of"))
    assert {"Multilingual Paraphrased Query Dataset", "PARAREL", "mParaRel"} <= set(rows)


def test_missing_counts_are_empty_cells():
    assert markdown(pd.DataFrame({"a": pd.array([1, None], "Int64")})).splitlines()[-1] == "|     |"
