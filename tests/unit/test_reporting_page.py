"""The landing page: well-formed, self-contained, without a broken link, and what it says follows the tables."""

import re

import pandas as pd
import pytest
import yaml

from knatlas.errors import AtlasError
from knatlas.provenance import ROOT
from knatlas.reporting.artefacts import SECTIONS, caption_text, sections
from knatlas.reporting.badges import judge_badges
from knatlas.reporting.html import SHOWN_ROWS, data_table
from knatlas.reporting.methods_text import methods_text
from knatlas.reporting.verdicts import badge_section
from knatlas.study import read_study
from tests.page_of_a_study import write_page
from tests.page_reader import Reader, broken_links


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return write_page(tmp_path_factory.mktemp("page") / "results")


@pytest.fixture(scope="module")
def read(page):
    return Reader(page.read_text(encoding="utf-8"))


def test_the_page_is_well_formed_and_its_images_have_texts(read):
    assert read.wrong == [] and read.bare == []
    assert len(read.ids) == len(set(read.ids)) >= 6


def test_the_page_has_no_broken_link(page, read):
    assert {"tables/badges.csv", "tables/claims.csv", "tables/known.csv", "report.html"} <= set(read.links)
    assert {"figures/amig_figure3.pdf"} <= set(read.links)
    assert broken_links(page, read) == []


def test_a_link_to_a_file_that_is_missing_is_found(page):
    assert broken_links(page, Reader('<a href="tables/no.csv">x</a><a href="#no">y</a>')) == ["#no", "tables/no.csv"]


def test_the_page_names_no_other_machine(page, read):
    assert [link for link in read.links if re.match(r"\w+://|//", link)] == []
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest", page.read_text(encoding="utf-8"))


def test_the_page_says_its_language_and_shows_claims_with_their_numbers(page, read):
    text = " ".join(" ".join(read.text).split())
    assert page.read_text(encoding="utf-8").startswith('<!doctype html>\n<html lang="en">')
    assert "Neurons <matter> & more. holds here 0.5 share [0.25, 0.5]" in text
    assert "MATRICE paper, 1 claim: 1 held in every model asked." in text and "日本語" in text


def test_the_same_results_make_the_same_page(page, tmp_path):
    assert write_page(tmp_path / "results").read_bytes() == page.read_bytes()


def test_badges_have_words_beside_their_colours():
    shown = "".join(badge_section(judge_badges({}, ["m"])))
    assert shown.count(">cannot be judged</span>") == 2 * 7


def test_a_long_table_is_linked_and_a_short_one_shown():
    long = data_table(pd.DataFrame({"a": range(SHOWN_ROWS + 1)}), "t", "tables/t.csv")
    assert "<table" not in long and 'href="tables/t.csv"' in long
    assert data_table(pd.DataFrame({"a": range(SHOWN_ROWS)}), "t", "tables/t.csv").count("<tr>") == SHOWN_ROWS + 1


def test_every_artefact_has_its_caption_and_unknown_ones_come_last():
    study = read_study(yaml.safe_load((ROOT / "config.yaml").read_text()))
    names = {of for parts in SECTIONS.values() for kind in parts.values() for of in kind.values()}
    assert all(caption_text(name, study, ROOT / "report") for name in names)
    *_, last = sections(["strange"], ["known", "odd"])
    assert last == ("Other results", {"strange": ""}, {"odd": ""})


def test_a_caption_that_cannot_be_filled_in_is_refused(tmp_path):
    (tmp_path / "c.rst").write_text("{% if snakemake %}x{% endif %}")
    with pytest.raises(AtlasError, match="cannot fill in"):
        caption_text("c", {}, tmp_path)


def test_the_methods_text_follows_the_configuration():
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    config["selection"]["matrice"]["tau"], config["seed"] = 0.37, 41
    texts = dict(methods_text(read_study(config)))
    assert "MATRICE tau 0.37" in texts["Neuron sets and controls"] and "AMIG tau 0.2 (en 0.3)" in "".join(
        texts.values()
    )
    assert "seed 41" in texts["Statistics"] and "20 points of the rule right" in texts["Attribution"]
    assert not re.search(r"[{}\[\]]", "".join(texts.values()))
    config["attribution"] |= {"equations": "code", "quadrature": "full"}
    assert "20 points of the rule left" in dict(methods_text(read_study(config)))["Attribution"]
