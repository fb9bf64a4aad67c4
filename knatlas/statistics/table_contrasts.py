"""Which rows of MATRICE's Table V, AMIG's Table 2 and the localization paper's Table 3 are tested against each other.

All are paired over the facts (records) of one model, and exchange within a fact what two treatments did to it.

matrice_table5: neurons against random ones at the same learning rate, and against all parameters (`direct_` with their
rate); all languages together, since a language by itself has few facts with wrong answers.
amig_table2: likn against mono and against seq, as the study's own reading counts them.
localization_table3: every editor against none, and editors against each other.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import combinations

import pandas as pd

from knatlas.errors import AtlasError, unknown
from knatlas.statistics.counterfact import STATISTICS as RECORD_STATISTICS
from knatlas.statistics.counterfact import measures_by_record, paired_records, prompt_measures
from knatlas.statistics.crosslingual import FACT_SETS, METHODS, edits_with_methods
from knatlas.statistics.injection import ALL, Counts, paired_accuracies
from knatlas.statistics.paired_tests import Contrast, common_facts
from knatlas.statistics.significance import RANDOM
from knatlas.statistics.success_rate import cells_by_fact, paired_rates, reading_of

DIRECT, LIKN, UNEDITED = "direct", "likn", "none"
TESTED_ACCURACIES = ["q_new", "q_new_heldout", "q_old", "average"]
TESTED_RATES = ["sr", "sr_of_differences"]
TESTED_SCORES = [name for name in RECORD_STATISTICS if name != "moved"]
Contrasts = Iterator[Contrast]


def injection_contrasts(rows: pd.DataFrame, reference: str) -> Contrasts:
    """Accuracies after fine-tuning chosen neurons, less those after random ones or all parameters.

    Args: rows of `inject`; reference, the selection that the random neurons are as many as.
    """
    for model, of_model in rows.groupby("model", sort=False):
        runs = {key: Counts.of(run) for key, run in of_model.groupby(["selection", "learning_rate"], sort=False)}
        for selection, rate in runs:
            if selection in (*RANDOM, DIRECT):
                continue
            names = {"model": model, "selection": selection, "language": ALL, "operation": "inject"}
            for contrast, control in _controls(runs, selection, rate, reference):
                fixed = {**names, "condition": f"{rate:g}", "contrast": contrast}
                for name in TESTED_ACCURACIES:
                    paired = paired_accuracies(runs[selection, rate], runs[control], name)
                    yield Contrast({**fixed, "statistic": name}, paired)


def crosslingual_contrasts(rows: pd.DataFrame, settings: Mapping, seed: int = 0) -> Contrasts:
    """The success rate of common neurons, less that of the other language's neurons and of both languages' edits.

    Args: rows of `edit_across`; settings, as of `summarise_crosslingual`; seed, of the irrelevant facts.
    """
    settings = dict(settings)
    facts = settings.pop("facts", FACT_SETS[0])
    reading, edits = reading_of(settings), edits_with_methods(rows, facts)
    for (model, pair, language), group in edits.groupby(["model", "pair", "language"], sort=False):
        cells = {method: cells_by_fact(edit, reading, seed) for method, edit in group.groupby("method", sort=False)}
        names = {"model": model, "selection": LIKN, "language": language, "operation": "all", "condition": pair}
        for contrast in (name for name in METHODS if name != LIKN and {name, LIKN} <= set(cells)):
            both = common_facts(cells[LIKN], cells[contrast])
            for name in TESTED_RATES:
                yield Contrast({**names, "contrast": contrast, "statistic": name}, paired_rates(*both, reading, name))


def counterfact_contrasts(rows: pd.DataFrame) -> Contrasts:
    """Success and magnitude after an editor, less those of the unedited model and of each editor before it.

    `moved` isn't tested: it can't be below the unedited model's 0. Args: rows of `edit_records`.
    """
    for model, of_model in prompt_measures(rows).groupby("model", sort=False):
        editors = {name: measures_by_record(part) for name, part in of_model.groupby("editor", sort=False)}
        for contrast, editor in combinations(sorted(editors, key=lambda name: name != UNEDITED), 2):
            names = {"model": model, "selection": editor, "language": of_model["language"].iloc[0]}
            names |= {"operation": "edit", "condition": "", "contrast": contrast}
            both = common_facts(editors[editor], editors[contrast])
            for name in TESTED_SCORES:
                yield Contrast({**names, "statistic": name}, paired_records(*both, name))


# the contrasts of each table, from the rows of its experiment, the settings and the seed
CONTRASTS: dict[str, Callable[[pd.DataFrame, Mapping, int], Contrasts]] = {
    "matrice_table5": lambda rows, settings, _: injection_contrasts(rows, settings["reference"]),
    "amig_table2": lambda rows, settings, seed: crosslingual_contrasts(rows, settings["success_rate"], seed),
    "localization_table3": lambda rows, *_: counterfact_contrasts(rows),
}


def table_contrasts(table: str, rows: pd.DataFrame, settings: Mapping, seed: int = 0) -> list[Contrast]:
    """The contrasts of a table of CONTRASTS (see the head of this file).

    Args: rows of its experiment; settings, `reference` as of `injection_contrasts` and `success_rate` as of
    `crosslingual_contrasts`; seed, of the irrelevant facts. Raises: AtlasError for another table.
    """
    if table not in CONTRASTS:
        raise AtlasError(unknown("significance: a table", table, "one whose rows are tested", CONTRASTS))
    return list(CONTRASTS[table](rows, settings, seed))


def _controls(runs: Mapping, selection: str, rate: float, reference: str) -> Iterator[tuple[str, tuple[str, float]]]:
    """The contrasts of a fine-tuning of chosen neurons, with the fine-tuning that is the control."""
    random = [name for name in RANDOM if (name, rate) in runs]
    if selection == reference:
        yield from ((name, (name, rate)) for name in random)
    else:
        yield from (("random_unmatched", (name, rate)) for name in random[:1])
    yield from ((f"{DIRECT}_{other:g}", (name, other)) for name, other in runs if name == DIRECT)
