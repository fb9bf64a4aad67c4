"""A small study's results, made by hand, and its landing page: for tests of what the page holds and how it renders."""

from pathlib import Path

import pandas as pd
import yaml
from matplotlib.figure import Figure

from knatlas.provenance import ROOT
from knatlas.reporting.badges import judge_badges
from knatlas.reporting.claims import judge_claims
from knatlas.reporting.page import Results, landing_page
from knatlas.storage import read_csv, write_csv
from knatlas.study import read_study

CLAIM = {
    "paper": "matrice",
    "sentence": "Neurons <matter> & more.",
    "table": "known",
    "where": {"language": "all", "statistic": "answered_rightly"},
    "expected": "above",
    "reference": 0,
    "unit": "share",
}


def known_table() -> pd.DataFrame:
    """Shares of two models in an order that is sorted neither as numbers nor as text; a word in Chinese."""
    shares = {"all": 0.5, "zh": 0.09, "fr": 1.0, "日本語": 0.25}
    rows = [{"language": name, "value": of, "lo": of / 2, "hi": of, "n": 24} for name, of in shares.items()]
    return pd.DataFrame(rows).assign(model="smoke-bert", statistic="answered_rightly")


def write_page(folder: Path) -> Path:
    """Write tables, a figure, and the landing page of a study into a folder; the page's path."""
    for name in ("tables", "figures"):
        (folder / name).mkdir(parents=True)
    write_csv(known_table(), folder / "tables" / "known.csv")
    figure = Figure(figsize=(2, 1))
    figure.subplots().plot([0, 1])
    for ending in ("png", "pdf"):
        figure.savefig(folder / "figures" / f"amig_figure3.{ending}")
    (folder / "report.html").write_text("<!doctype html><title>report</title>")
    tables = {folder / "tables" / "known.csv": known_table()}
    study = read_study(yaml.safe_load((ROOT / "studies" / "smoke.yaml").read_text()))
    badges = judge_badges({"known": known_table()}, ["smoke-bert"])
    claims = judge_claims({"c": CLAIM}, {"known": known_table()}, {"smoke-bert": True})
    for name, table in (("badges", badges), ("claims", claims)):
        write_csv(table, folder / "tables" / f"{name}.csv")
    badges, claims = (read_csv(folder / "tables" / f"{name}.csv") for name in ("badges", "claims"))
    figures = [folder / "figures" / f"amig_figure3.{ending}" for ending in ("png", "pdf")]
    beside, revisions = [folder / "report.html"], {"smoke-bert": "sha256:abc"}
    results = Results(folder, tables, figures, beside, ROOT / "report", study, revisions)
    page = folder / "index.html"
    page.write_text(landing_page(badges, claims, results), encoding="utf-8")
    return page
