"""What is found in real facts and models beside what is found under a negative control, over the same facts.

Measures, one value per fact, the mean over the languages in which it was searched (sets for all languages count once):

neurons: neurons in the set. empty: 1 where it has none, else 0. depth: mean layer of its neurons, 0 the first and 1 the
last. overlap: Jaccard of the control's set with the fact's own real set; beside it, as the real value, the mean Jaccard
of the real set with the real sets of all other facts: what two facts have in common anyway. layer_distance: total
variation (half the sum of the differences of shares) between the fact's layer profile, of all its languages' neurons
together, and that of the real sets of all other facts together. change_of_p, log_change: relative change of P(answer)
(Eq. 14 of MATRICE) and log(P after / P before), in nats, when the set's neurons are suppressed.

Layers are taken only of facts that have neurons in both sets, the overlap only where one of the two has any.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float

from knatlas.experiments.layer_distribution import count_layers
from knatlas.selection.neuron_set import ALL, NeuronSets
from knatlas.statistics.bootstrap import DEFAULT_RESAMPLES, bootstrap_mean
from knatlas.statistics.layers import LAYER_COLUMNS, layer_shares
from knatlas.statistics.multiple_tests import with_holm
from knatlas.statistics.permutation import DEFAULT_PERMUTATIONS, sign_flip
from knatlas.statistics.stability import Sets, jaccard, row_means
from knatlas.statistics.summaries import per_fact

SET_MEASURES, LAYER_MEASURES = ("neurons", "empty", "overlap"), ("depth", "layer_distance")
CHANGES = {"change_of_p": "relative_change", "log_change": "log_ratio"}
MEASURES = (*SET_MEASURES, *LAYER_MEASURES, *CHANGES)
GROUP = ["model", "selection", "control", "measure"]
VALUE_COLUMNS = ["model", "selection", "measure", "fact", "real", "null"]
CONTROL_COLUMNS = [
    *(*GROUP, "real", "real_lo", "real_hi", "null", "null_lo", "null_hi"),
    *("value", "lo", "hi", "n", "n_nonzero", "p", "p_holm", "n_tests", "method"),
]
FAMILY = ["control", "measure"]
ByFact = Float[np.ndarray, " fact"]


def compared_values(
    real: Sequence[NeuronSets],
    control: Sequence[NeuronSets],
    real_rows: pd.DataFrame,
    control_rows: pd.DataFrame,
    min_p_before: float = 0.0,
) -> pd.DataFrame:
    """Both values of every measure for each fact that was searched in reality and under one control.

    Args: real and control, sets of any models and selections, paired by both names; real_rows and control_rows, what
    `manipulate` measured with them; min_p_before, smaller P before are left out of the changes.
    Returns: VALUE_COLUMNS, a row per model, selection, measure and fact; NaN where a measure has no value.
    """
    by_name, parts = {(part.model, part.selection): part for part in real}, []
    changes = [_changes(rows, min_p_before) for rows in (real_rows, control_rows)]
    for part in control:
        name = (part.model, part.selection)
        if name in by_name:
            found = pd.concat([_set_values(by_name[name], part), _paired_changes(changes, name, part.facts)])
            parts.append(found.assign(model=part.model, selection=part.selection))
    return pd.concat(parts, ignore_index=True)[VALUE_COLUMNS] if parts else pd.DataFrame(columns=VALUE_COLUMNS)


def controls_table(
    values: pd.DataFrame,
    seed: int = 0,
    resamples: int = DEFAULT_RESAMPLES,
    permutations: int = DEFAULT_PERMUTATIONS,
) -> pd.DataFrame:
    """Mean over facts of the real values, of the null values and of their difference, with intervals and a test.

    value, lo, hi: real less null. All three over the n facts that have both; p, two-sided, by flipping the signs of the
    facts' differences (`sign_flip`); p_holm, corrected over the tests of one control and measure (models, selections).

    Args: values, of `compared_values`, with a column `control`. Returns: CONTROL_COLUMNS.
    """
    lines = []
    for key, group in values.dropna(subset=["real", "null"]).groupby(GROUP, sort=False):
        real, null = group["real"].to_numpy(float), group["null"].to_numpy(float)
        test = sign_flip(real - null, seed, permutations)
        means = [bootstrap_mean(part, seed, resamples) for part in (real, null, real - null)]
        lines.append((*key, *means[0][:3], *means[1][:3], *means[2], test.n_nonzero, test.p, test.method))
    columns = [name for name in CONTROL_COLUMNS if name not in ("p_holm", "n_tests")]
    return with_holm(pd.DataFrame(lines, columns=columns), FAMILY)[CONTROL_COLUMNS]


def pooled_layers(sets: Iterable[NeuronSets], seed: int = 0, resamples: int = DEFAULT_RESAMPLES) -> pd.DataFrame:
    """`layer_shares` of many sets, the neurons of all languages of a fact together (language `all`)."""
    parts = []
    for part in sets:
        counts = count_layers(part).groupby(["model", "selection", "fact", "layer"], sort=False)["n_neurons"].sum()
        parts.append(layer_shares(counts.reset_index().assign(language=ALL), seed, resamples))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=LAYER_COLUMNS)


def _set_values(real: NeuronSets, control: NeuronSets) -> pd.DataFrame:
    """The measures of the sets: measure, fact, real, null."""
    relations = dict.fromkeys([*real.facts, *control.facts], "")
    pairs = [[Sets.of(part, language, relations) for part in (real, control)] for language in control.languages]
    facts = [fact for fact in control.facts if fact in set(real.facts)]
    measured = pd.concat([_of_language(*pair) for pair in pairs]).groupby("fact").mean().reindex(facts)
    layers = _of_layers(*([pair[side] for pair in pairs] for side in (0, 1)), facts)
    found = pd.concat([measured, layers], axis=1)
    return pd.concat([_lines(measure, facts, found) for measure in (*SET_MEASURES, *LAYER_MEASURES)])


def _lines(measure: str, facts: Sequence[str], found: pd.DataFrame) -> pd.DataFrame:
    """The lines of one measure, from a table with a column for each measure and side, a row per fact."""
    sides = {side: found[measure, side].to_numpy(float) for side in ("real", "null")}
    return pd.DataFrame({"measure": measure, "fact": list(facts), **sides})


def _of_language(own: Sets, null: Sets) -> pd.DataFrame:
    """SET_MEASURES of both sides in one language, a row per fact that both searched."""
    place = {fact: i for i, fact in enumerate(own.facts)}
    both = [(place[fact], i) for i, fact in enumerate(null.facts) if fact in place]
    one, other = np.array(both, dtype=int).reshape(-1, 2).T
    sizes = {"real": own.sizes[one], "null": null.sizes[other]}
    shared = np.asarray(own.members[one].multiply(null.members[other]).sum(axis=1)).ravel()
    columns = {("overlap", "real"): _with_others(own, one), ("overlap", "null"): jaccard(shared, *sizes.values())}
    for side, size in sizes.items():
        columns |= {("neurons", side): size, ("empty", side): size == 0}
    return pd.DataFrame(columns, index=pd.Index([own.facts[i] for i in one], name="fact"), dtype=float)


def _with_others(sets: Sets, rows: np.ndarray) -> ByFact:
    """Mean Jaccard of the sets of some facts with those of all other facts."""
    shared = (sets.members[rows] @ sets.members.T).toarray()
    found = jaccard(shared, sets.sizes[rows, None], sets.sizes)
    found[np.arange(len(rows)), rows] = np.nan
    return row_means(found)


def _of_layers(own: Sequence[Sets], null: Sequence[Sets], facts: Sequence[str]) -> pd.DataFrame:
    """LAYER_MEASURES of both sides, a row per fact; the sets of all languages together."""
    counts = {side: _layer_counts(sets) for side, sets in (("real", own), ("null", null))}
    rest = _profiles((counts["real"].sum() - counts["real"]).reindex(facts))
    columns = {}
    for side, table in counts.items():
        profiles = _profiles(table.reindex(facts))
        columns["depth", side] = profiles @ np.linspace(0, 1, profiles.shape[1])
        columns["layer_distance", side] = np.abs(profiles - rest).sum(axis=1) / 2
    return pd.DataFrame(columns, index=pd.Index(facts, name="fact"))


def _layer_counts(sets: Sequence[Sets]) -> pd.DataFrame:
    """Neurons per fact (rows) and layer, of several languages together."""
    return pd.concat([pd.DataFrame(part.layers, index=part.facts) for part in sets]).groupby(level=0).sum()


def _profiles(counts: pd.DataFrame) -> Float[np.ndarray, "fact layer"]:
    """The share of each row's neurons that lie in each layer; NaN in a row without neurons."""
    values = counts.to_numpy(float)
    total = values.sum(axis=1, keepdims=True)
    return np.divide(values, total, out=np.full(values.shape, np.nan), where=total > 0)


def _changes(rows: pd.DataFrame, min_p_before: float) -> Mapping[tuple[str, str], pd.DataFrame]:
    """The measures of suppression by model and selection, a row per fact, over all languages."""
    kept = rows[(rows["operation"] == "suppress") & (rows["probe"] == "own")]
    measured = per_fact(kept, min_p_before)
    pooled = (
        measured[measured["language"] == ALL].groupby(["model", "selection", "fact"])[list(CHANGES.values())].mean()
    )
    return {key: part.droplevel([0, 1]) for key, part in pooled.groupby(level=[0, 1])}


def _paired_changes(changes: list[Mapping], name: tuple[str, str], facts: Sequence[str]) -> pd.DataFrame:
    """The measures of suppression of the control's facts: measure, fact, real, null; NaN where none was measured."""
    none = pd.DataFrame(columns=list(CHANGES.values()), dtype=float)
    real, null = (part.get(name, none).reindex(facts) for part in changes)
    sides = {(measure, "real"): real[column] for measure, column in CHANGES.items()}
    sides |= {(measure, "null"): null[column] for measure, column in CHANGES.items()}
    return pd.concat([_lines(measure, facts, pd.DataFrame(sides, index=facts)) for measure in CHANGES])
