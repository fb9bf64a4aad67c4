"""What a model knows, from its answers: the facts worth localising, and a summary per language."""

from collections.abc import Mapping

import pandas as pd

from knatlas.errors import AtlasError
from knatlas.facts.sampling import in_turn


def choose_facts(known: pd.DataFrame, localisation: Mapping, shards: int, seed: int) -> pd.DataFrame:
    """The facts to localise: those that qualify, spread evenly over the relations, in an order drawn with the seed.

    Args: known, the table of answers; localisation, the study's settings (facts, known_languages, min_probability).
    Returns: one row per fact: fact, relation, n_known_languages, mean_p, shard.
    Raises: AtlasError when no fact qualifies.
    """
    summary = summarise_facts(known)
    needed = min(localisation["known_languages"], known["language"].nunique())
    qualifies = (summary["n_known_languages"] >= needed) & (summary["mean_p"] >= localisation["min_probability"])
    if not qualifies.any():
        raise AtlasError(_none_sentence(known, summary, needed, localisation["min_probability"]))
    chosen = in_turn(summary[qualifies], seed).head(localisation["facts"] or len(summary)).reset_index(drop=True)
    return chosen.assign(shard=[i % shards for i in range(len(chosen))])


def summarise_facts(known: pd.DataFrame) -> pd.DataFrame:
    """Per fact: in how many languages its first query is answered rightly, and the mean P(answer) over languages."""
    first = known[known["query"] == known.groupby(["fact", "language"])["query"].transform("min")]
    grouped = first.groupby(["fact", "relation"], as_index=False)
    return grouped.agg(n_known_languages=("is_argmax", "sum"), mean_p=("p", "mean"))


def cut_facts(chosen: pd.DataFrame, prompts: pd.DataFrame, most: int | None, shards: int) -> pd.DataFrame:
    """The first facts of those localised that a control has prompts for, dealt out to shards anew.

    The first are spread over the relations, as `choose_facts` orders them; whether the model answers the control's
    prompts does not matter. Args: chosen, of `choose_facts`; prompts of the control; most facts, None for all.
    Raises: AtlasError when there are none.
    """
    kept = chosen[chosen["fact"].isin(set(prompts["fact"]))].head(most or len(chosen)).reset_index(drop=True)
    if kept.empty:
        raise AtlasError(
            f"controls: none of the {len(chosen)} localised facts has prompts under the control; objects can't be "
            "shuffled where every relation has one answer alone: leave the control out of controls.kinds"
        )
    return kept.assign(shard=[i % shards for i in range(len(kept))])


def _none_sentence(known: pd.DataFrame, summary: pd.DataFrame, needed: int, min_probability: float) -> str:
    model = known["model"].iloc[0] if len(known) else "the model"
    best = int(summary["n_known_languages"].max()) if len(summary) else 0
    return (
        f"localisation: none of the {len(summary)} facts qualifies for {model}: known_languages asks for {needed} "
        f"languages (the best fact has {best}) and min_probability for {min_probability}; "
        "lower one of them in the configuration"
    )
