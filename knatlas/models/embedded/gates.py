"""What a finished embedded model must show, and what is reported beside it.

Accuracy alone is no gate: a model may answer everything and hold nothing in its FFN. The share of P that hangs on the
FFN is none either: a few neurons common to all facts can carry it all. So three gates close together: accuracy, FFN
share, and specificity, which compares what a fact's strongest neurons do to it with what they do to facts of other
relations.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from knatlas.catalog import read_catalog
from knatlas.errors import AtlasError
from knatlas.models.embedded.batches import encode_sentences
from knatlas.models.embedded.corpus import Sentence, context_sentences, fill, marked_sentences, queries
from knatlas.models.embedded.measures import Probe, mean_activations, measure, strongest_neurons
from knatlas.models.embedded.network import n_neurons
from knatlas.models.embedded.recipe import Recipe, Thresholds

GATE_COLUMNS = ["gate", "value", "threshold", "is_passed", "n", "sentence"]
LEAST_P = 0.2  # queries of lower P have no share to lose
N_MARKED = 40  # sentences per punctuation mark
SEED_OF_NEW_CONTEXTS = 1_000_000  # added to a seed, for contexts that are not those of a training
N_IN_CONTEXT = 200  # queries that are asked in a context, of each part of the split
N_SHARE_QUERIES = 400
N_SPECIFICITY_QUERIES = 24
N_OTHER_QUERIES = 8
LARGEST_RATIO = 100.0


def probe_queries(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, rows: pd.DataFrame) -> Probe:
    """A probe on the queries of a table with pattern, subject_label and object_label, in its order."""
    kind = "masked" if tokenizer.mask_token_id is not None else "causal"
    labels = rows[["pattern", "subject_label", "object_label"]].itertuples(index=False)
    encoded = encode_sentences(tokenizer, [fill(*values) for values in labels], kind)
    return Probe(model, encoded, kind, tokenizer.mask_token_id)


def load_folder(folder: str | Path) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """The model (eval mode) and the tokenizer of a folder."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    auto = AutoModelForCausalLM if tokenizer.mask_token_id is None else AutoModelForMaskedLM
    return auto.from_pretrained(folder).eval(), tokenizer


def measure_gates(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    facts: pd.DataFrame,
    templates: pd.DataFrame,
    splits: pd.DataFrame,
    thresholds: Thresholds,
    seed: int = 0,
) -> pd.DataFrame:
    """Gates and reported figures of a model: one row each, with the columns of GATE_COLUMNS.

    Rows without a threshold are reported, not required; their `threshold` is NaN and `is_passed` true.
    """
    rows = queries(facts, templates, splits)
    probe = probe_queries(model, tokenizer, rows)
    rows["p"], rows["is_argmax"] = measure(probe, np.arange(len(rows)))
    rows["n_tokens"] = probe.encoded.is_answer.sum(1)
    generator = np.random.default_rng([seed, 4])
    figures = _accuracies(rows) + _shares(probe, rows, generator) + _specificity(probe, rows, generator)
    return gate_table(figures, thresholds)


def further_figures(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, rows: pd.DataFrame, recipe: Recipe, seed: int = 0
) -> list[pd.DataFrame]:
    """Reported figures, as `gate_table`, of what the recipe asks for beside facts: nothing, marks, facts in a context.

    Args: rows, the queries with their split (see `corpus.queries`). The sentences are never those trained on.
    """
    figures = []
    if recipe.punctuation:
        sentences = marked_sentences(rows, read_catalog("punctuation"), N_MARKED, seed, is_held_out=True)
        is_argmax = _answered(model, tokenizer, sentences, recipe.kind)
        text = "Share of sentences not trained on whose punctuation mark is answered"
        figures.append(("punctuation", float(is_argmax.mean()), len(sentences), text))
    if recipe.context_share:
        for split, text in (("train", "trained queries"), ("para", "trained facts in templates not trained on,")):
            sentences = context_sentences(rows, split, 1, seed + SEED_OF_NEW_CONTEXTS)
            chosen = np.random.default_rng([seed, 7]).permutation(len(sentences))[:N_IN_CONTEXT]
            if len(chosen):
                is_argmax = _answered(model, tokenizer, [sentences[k] for k in chosen], recipe.kind)
                text = f"Share of {text} answered behind up to four other facts"
                figures.append((f"context_{split}", float(is_argmax.mean()), len(chosen), text))
    return [gate_table(figures, Thresholds())] if figures else []


def _answered(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, sentences: list[Sentence], kind: str
) -> np.ndarray:
    """Whether all tokens of the answer are argmax, (sentences,)."""
    probe = Probe(model, encode_sentences(tokenizer, sentences, kind), kind, tokenizer.mask_token_id)
    return measure(probe, np.arange(len(sentences)))[1]


def gate_table(figures: Sequence[tuple[str, float, int, str]], thresholds: Thresholds) -> pd.DataFrame:
    """Figures (gate, value, n, meaning) with their thresholds and whether they pass; NaN passes no threshold."""
    table = []
    for gate, value, n, meaning in figures:
        threshold = getattr(thresholds, gate, None)
        is_passed = threshold is None or bool(value >= threshold)
        demand = "" if threshold is None else f", {'at least' if is_passed else 'short of'} the required {threshold:g}"
        sentence = f"{meaning}: {value:.3f} (n = {n}){demand}."
        table.append((gate, value, np.nan if threshold is None else threshold, is_passed, n, sentence))
    return pd.DataFrame(table, columns=GATE_COLUMNS)


def require_gates(gates: pd.DataFrame, name: str = "the model") -> None:
    """Raise AtlasError with all figures when a gate is missed."""
    missed = gates.loc[~gates["is_passed"], "gate"].tolist()
    if missed:
        figures = "\n".join(f"  {row.gate}: {row.sentence}" for row in gates.itertuples())
        raise AtlasError(
            f"{name} misses {' and '.join(missed)}; all figures:\n{figures}\n"
            "Train on more facts or with another seed, or change the recipe or its thresholds in catalog/models.yaml."
        )


def _accuracies(rows: pd.DataFrame) -> list[tuple[str, float, int, str]]:
    """Share of queries whose answer tokens are all argmax, in each part of the split that has queries."""
    train, para, held_out = (rows[rows["split"] == split] for split in ("train", "para", "xling"))
    kinds = _kinds_of_transfer(held_out, rows[rows["split"] == "train"])
    parts = [
        ("accuracy", train, "Share of trained queries answered"),
        ("accuracy_one_token", train[train["n_tokens"] == 1], "Share of trained queries of one-token objects answered"),
        ("accuracy_many_tokens", train[train["n_tokens"] > 1], "Share of trained queries of longer objects answered"),
        ("paraphrases", para, "Share answered of trained facts in templates not trained on"),
        ("held_out", held_out, "Share answered of facts never trained on in that language"),
        ("held_out_same_string", held_out[kinds == "same"], "The same, where a trained language spells the object so"),
        (
            "held_out_seen_answer",
            held_out[kinds == "seen"],
            "The same, where the object is spelled so nowhere but answers another fact",
        ),
        (
            "held_out_new_answer",
            held_out[kinds == "never"],
            "The same, where the object is no trained answer of the language",
        ),
    ]
    for language, own in train.groupby("language", sort=True):
        parts.append((f"accuracy_{language}", own, f"Share of trained queries answered in {language}"))
    for language, own in held_out.groupby("language", sort=True):
        parts.append((f"held_out_{language}", own, f"Share of held-out facts answered in {language}"))
    return [(gate, float(part["is_argmax"].mean()), len(part), text) for gate, part, text in parts if len(part)]


def _kinds_of_transfer(held_out: pd.DataFrame, train: pd.DataFrame) -> pd.Series:
    """Kind of each held-out query.

    `same`: the fact is trained in another language with this spelling of the object; else `seen`: the spelling answers
    a trained fact of the language; else `never`.
    """
    spelled = set(zip(train["fact"], train["object_label"], strict=True))
    answered = set(zip(train["language"], train["object_label"], strict=True))
    kinds = [
        "same"
        if (row.fact, row.object_label) in spelled
        else "seen"
        if (row.language, row.object_label) in answered
        else "never"
        for row in held_out.itertuples()
    ]
    return pd.Series(kinds, index=held_out.index, dtype=object)


def known_rows(rows: pd.DataFrame, n: int, generator: np.random.Generator) -> np.ndarray:
    """Up to n random trained queries whose P is large enough to lose."""
    known = np.flatnonzero((rows["split"] == "train") & (rows["p"] >= LEAST_P))
    return np.sort(generator.permutation(known)[:n])


def ffn_share(
    probe: Probe, chosen: np.ndarray, p: np.ndarray, level: torch.Tensor | None = None
) -> tuple[float, float]:
    """Mean relative loss of P when every neuron is at `level` (zero when None), and the share still argmax."""
    p_off, is_argmax = measure(probe, chosen, torch.ones(1, *n_neurons(probe.model)), level)
    return float(np.mean(1 - p_off / p)), float(np.mean(is_argmax))


def _shares(probe: Probe, rows: pd.DataFrame, generator: np.random.Generator) -> list[tuple[str, float, int, str]]:
    chosen = known_rows(rows, N_SHARE_QUERIES, generator)
    if not len(chosen):
        return [("ffn_share", float("nan"), 0, "No trained query has a P of .2 or more, so no share can be measured")]
    p = rows["p"].to_numpy()[chosen]
    zeroed, is_kept = ffn_share(probe, chosen, p)
    meaned, _ = ffn_share(probe, chosen, p, mean_activations(probe, chosen))
    n = len(chosen)
    return [
        ("ffn_share", zeroed, n, "Relative loss of P with all FFN neurons at zero where the answer is predicted"),
        ("ffn_share_mean", meaned, n, "The same with each neuron at its mean over queries"),
        ("argmax_off", is_kept, n, "Share of queries still answered with all FFN neurons at zero"),
    ]


def _specificity(probe: Probe, rows: pd.DataFrame, generator: np.random.Generator) -> list[tuple[str, float, int, str]]:
    own, others = [], []
    pool = known_rows(rows, N_SHARE_QUERIES, generator)
    p, relation = rows["p"].to_numpy(), rows["relation"].to_numpy()
    for row in generator.permutation(pool)[:N_SPECIFICITY_QUERIES]:
        elsewhere = generator.permutation(pool[relation[pool] != relation[row]])[:N_OTHER_QUERIES]
        touched = np.array([row, *elsewhere])
        p_off, _ = measure(probe, touched, strongest_neurons(probe, int(row)))
        losses = 1 - p_off / p[touched]
        own.append(losses[0])
        others.extend(losses[1:])
    mean_own, mean_others = (float(np.mean(values)) if values else float("nan") for values in (own, others))
    ratio = min(mean_own / max(mean_others, 1e-9), LARGEST_RATIO)
    return [
        (
            "specificity",
            ratio,
            len(own),
            "Suppression by a fact's ten strongest neurons over their suppression elsewhere, at most 100",
        ),
        ("suppression_own", mean_own, len(own), "Relative loss of P of a fact without its ten strongest neurons"),
        (
            "suppression_others",
            mean_others,
            len(others),
            "Relative loss of P of other relations' facts without these neurons",
        ),
    ]
