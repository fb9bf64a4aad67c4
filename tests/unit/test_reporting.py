"""Badges and claims: each follows from rows of tables, and flips when the rows do."""

import pandas as pd
import pytest

from knatlas.catalog import read_catalog
from knatlas.errors import AtlasError
from knatlas.reporting.badges import judge_badges, state_of
from knatlas.reporting.claims import FAILS, HOLDS, NOT_STUDIED, UNDECIDED, judge_claims, judge_row
from knatlas.reporting.verdicts import summary_lines

CLAIMS = read_catalog("claims")
ZERO = {"value": 0.0, "lo": 0.0, "hi": 0.0, "n": 24}


def numbers(value, half=0.1, n=24):
    return {"value": value, "lo": value - half, "hi": value + half, "n": n}


def claim_tables(claim, found, control):
    """The claim's table with two rows per column of `each`, and for each row its control where the claim has one."""
    rows = []
    for case in range(2):
        each = {name: f"{name}{case}" if name not in ("layer", "index") else case for name in claim.get("each", [])}
        where = {**{name: of[0] if isinstance(of, list) else of for name, of in claim["where"].items()}, **each}
        rows.append({**where, **found, "model": "m"})
        other = {name: "of the control" if of is None else of for name, of in claim.get("control", {}).items()}
        if "control" in claim and {**where, **other} not in [{k: r[k] for k in where} for r in rows[:-1]]:
            rows.append({**where, **other, **control, "model": "m"})
    table = pd.DataFrame(rows).drop_duplicates()
    return {claim["table"]: table}


def verdict(name, found, control):
    claim = CLAIMS[name]
    tables = claim_tables(claim, found, control)
    if "learning_rate" in claim.get("control", {}):  # one control for all rows
        tables[claim["table"]] = tables[claim["table"]].drop_duplicates("learning_rate")
    return judge_claims({name: claim}, tables, {"m": True}).iloc[0]


def sides(name, sign):
    """Found and control numbers on the claimed side (sign 1), or with found and control exchanged (sign -1)."""
    claim = CLAIMS[name]
    away = sign * (1 if claim["expected"] == "above" else -1)
    if "reference" in claim:
        return numbers(claim["reference"] + away), {}
    return (numbers(away), numbers(0.0)) if sign > 0 else (numbers(0.0), numbers(-away))


@pytest.mark.parametrize("name", CLAIMS)
def test_a_claim_of_the_catalog_flips_when_found_and_control_are_exchanged(name):
    assert verdict(name, *sides(name, 1))["verdict"] == HOLDS
    assert verdict(name, *sides(name, -1))["verdict"] == FAILS


@pytest.mark.parametrize("name", CLAIMS)
def test_a_claim_of_the_catalog_is_undecided_where_the_interval_includes_no_effect(name):
    reference = CLAIMS[name].get("reference", 0.0)
    found = verdict(name, numbers(reference), numbers(0.0))
    assert (found["verdict"], found["why"]) == (UNDECIDED, "the interval includes no effect")


def test_a_claim_without_its_table_or_its_rows_is_not_studied():
    without = judge_claims(CLAIMS, {}, {"m": True})
    assert set(without["verdict"]) == {NOT_STUDIED} and len(without) == len(CLAIMS)
    assert without["why"].str.startswith("the study has no ").all()
    name = "matrice_suppression_every_language"
    tables = claim_tables(CLAIMS[name], numbers(-1.0), {})
    monolingual = judge_claims({name: CLAIMS[name]}, tables, {"m": False})
    assert monolingual["verdict"].tolist() == [NOT_STUDIED]


def one_claim(**change):
    claim = {"paper": "p", "sentence": "s", "table": "t", "where": {"statistic": "x"}, "unit": "share"}
    return {"c": {**claim, "expected": "above", "reference": 0, "each": ["language"], **change}}


def rows(*values, n=24):
    parts = [{"model": "m", "statistic": "x", "language": str(i), **numbers(of, n=n)} for i, of in enumerate(values)]
    return {"t": pd.DataFrame(parts)}


@pytest.mark.parametrize(
    ("quantifier", "values", "expected", "shown"),
    [
        ("every", (1.0, 2.0), HOLDS, 1.0),
        ("every", (1.0, 0.0), UNDECIDED, 0.0),
        ("every", (1.0, 0.0, -1.0), FAILS, -1.0),
        ("every", (1.0, float("nan")), UNDECIDED, 1.0),
        ("some", (1.0, -1.0), HOLDS, 1.0),
        ("some", (0.0, -1.0), UNDECIDED, 0.0),
        ("some", (-2.0, -1.0), FAILS, -1.0),
    ],
)
def test_the_row_that_decides_is_shown(quantifier, values, expected, shown):
    found = judge_claims(one_claim(quantifier=quantifier), rows(*values), {"m": True}).iloc[0]
    assert (found["verdict"], found["value"], found["n_rows"]) == (expected, shown, len(values))


def test_four_facts_decide_nothing():
    few, enough = (judge_claims(one_claim(), rows(1.0, n=n), {"m": True}).iloc[0] for n in (4, 5))
    assert (few["verdict"], enough["verdict"]) == (UNDECIDED, HOLDS)


def test_an_interval_that_touches_no_effect_is_undecided():
    touching = {"value": 1.0, "lo": 0.0, "hi": 2.0, "n": 24}
    assert judge_row("above", touching, ZERO).verdict == UNDECIDED
    assert judge_row("below", touching, ZERO).verdict == UNDECIDED


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"expected": "abvoe"}, "Did you mean 'above'"),
        ({"quantifier": "evry"}, "Did you mean 'every'"),
        ({"control": {"statistic": "y"}}, "give it one"),
        ({"where": {"statistik": "x"}}, "Did you mean 'statistic'"),
    ],
)
def test_a_claim_that_cannot_be_judged_is_refused_with_a_sentence(change, words):
    with pytest.raises(AtlasError, match=words):
        judge_claims(one_claim(**change), rows(1.0), {"m": True})


def badge_tables(**change):
    """Tables of a study whose badges are all green but for what `change` says of the numbers in them."""
    of = {"above": 0.01, "n": 120, "control": -0.01, "separated": True, "stable": 0.8, "known": 0.9, "found": 0.95}
    of |= {"confusion": 0.05, **change}
    separation = {
        "control_value": of["control"],
        "control_lo": of["control"] - 0.01,
        "control_hi": of["control"] + 0.01,
    }
    separation |= {"ratio": 40.0, "size_ratio": 20.0, "is_separated": of["separated"], "operation": "suppress"}
    exactness = [{"method": name, "above_tolerance": share} for name, share in (("bkn", of["above"]), ("atp", 1.0))]
    planted = {"agnostic": ("average_precision", of["found"]), "specific": ("confusion", of["confusion"])}
    whole = {"model": "m", "language": "all", "selection": "matrice"}
    paraphrases = {**whole, "statistic": "paraphrases"}
    found = pd.DataFrame(
        {"kind": kind, "measure": measure, **numbers(value, 0.02)} for kind, (measure, value) in planted.items()
    ).assign(family="all", selection="matrice", reading="default", strength="medium")
    return {
        "exactness": pd.DataFrame([{**whole, **row, "n_queries": 240} for row in exactness]),
        "control_separation": pd.DataFrame(
            [{**whole, **separation, **numbers(-0.4, n=of["n"]), "control": "random_layer_matched"}]
        ),
        "stability": pd.DataFrame([{**paraphrases, **numbers(of["stable"])}, {**paraphrases, **numbers(0.99)}]),
        "known": pd.DataFrame([{**whole, "statistic": "answered_rightly", **numbers(of["known"])}]),
        # of a deeper network, which is not judged: both on the wrong side
        "planted_localization": pd.concat(
            [found.assign(network="layers_6", value=0.5), found.assign(network="reference")]
        ),
    }


def states(tables):
    return judge_badges(tables, ["m"]).set_index("badge")["state"].to_dict()


def test_badges_of_a_study_without_fault_are_green():
    assert set(states(badge_tables()).values()) == {"green"}


@pytest.mark.parametrize(
    ("badge", "change", "expected"),
    [
        ("completeness", {"above": 0.06}, "amber"),
        ("completeness", {"above": 0.3}, "red"),
        ("control", {"separated": False}, "amber"),
        ("control", {"separated": False, "control": -0.35}, "red"),
        ("enough_facts", {"n": 24}, "amber"),
        ("enough_facts", {"n": 19}, "red"),
        ("stability", {"stable": 0.55}, "amber"),
        ("stability", {"stable": 0.45}, "red"),
        ("answers_known", {"known": 0.55}, "amber"),
        ("answers_known", {"known": 0.45}, "red"),
        ("planted_found", {"found": 0.91}, "amber"),
        ("planted_found", {"found": 0.89}, "red"),
        ("planted_confusion", {"confusion": 0.19}, "amber"),
        ("planted_confusion", {"confusion": 0.21}, "red"),
    ],
)
def test_a_badge_flips_with_its_numbers_alone(badge, change, expected):
    assert states(badge_tables(**change)) == {**states(badge_tables()), badge: expected}


def test_badges_without_their_tables_are_grey_and_say_what_is_missing():
    badges = judge_badges({}, ["m"])
    assert set(badges["state"]) == {"grey"}
    assert badges["sentence"].str.fullmatch(r"there is no \w+\.csv").all()


def test_a_value_on_the_threshold_is_on_the_wanted_side():
    assert state_of({"value": 0.5, "lo": 0.5, "hi": 0.5, "n": 5}, 0.5) == "green"
    assert state_of({"value": float("nan"), "lo": 0, "hi": 1, "n": 5}, 0.5) == "grey"


def test_few_facts_that_agree_make_no_badge_green():
    assert state_of({"value": 1.0, "lo": 1.0, "hi": 1.0, "n": 4}, 0.5) == "amber"


def test_the_line_of_a_paper_flips_with_its_verdicts():
    claims = judge_claims(one_claim(), rows(1.0), {"m": True})
    assert summary_lines(claims) == ["p, 1 claim: 1 held in every model asked."]
    claims = judge_claims(one_claim(), rows(-1.0), {"m": True})
    assert summary_lines(claims) == ["p, 1 claim: 1 failed in at least one model."]
