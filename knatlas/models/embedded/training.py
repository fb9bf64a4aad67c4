"""Training of the embedded models: the same seed, facts and library versions give the same folder, byte for byte."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from math import cos, pi
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from knatlas.catalog import read_catalog
from knatlas.models.embedded.batches import Batch, Encoded, draw_predictions, encode_sentences, endless_rows, make_batch
from knatlas.models.embedded.corpus import (
    CONTEXTS,
    Sentence,
    context_sentences,
    dictionary_sentences,
    fact_sentences,
    fill,
    marked_sentences,
    queries,
    split_facts,
)
from knatlas.models.embedded.gates import further_figures, measure_gates
from knatlas.models.embedded.initialisation import initialise, parameter_groups
from knatlas.models.embedded.network import answer_logits, build_network, ffn_hook
from knatlas.models.embedded.recipe import Recipe
from knatlas.models.embedded.tokenizers import build_tokenizer
from knatlas.writing import replacing

REPORTED_STEPS = 100  # steps over which the reported loss is averaged

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class TrainingReport:
    """What a training did: steps taken, CPU seconds, mean loss of the last hundred steps, sizes, the split, the gates.

    splits: (fact, language, template, split), see `corpus.split_facts`; gates: see `gates.measure_gates`.
    """

    steps: int
    cpu_seconds: float
    loss: float
    n_tokens: int
    n_sentences: int
    splits: pd.DataFrame
    gates: pd.DataFrame


@dataclass(frozen=True)
class Part:
    """Training sentences of one kind, and how many of them each step reads."""

    encoded: Encoded
    per_step: int


def train_embedded(
    recipe: Recipe,
    facts: pd.DataFrame,
    templates: pd.DataFrame,
    languages: Sequence[str],
    seed: int,
    folder: str | Path,
    progress: Progress = lambda step, total, message: None,
) -> TrainingReport:
    """Train a model on facts and write it, with its tokenizer, as a save_pretrained folder.

    Runs on one thread whatever the machine, so that sums are taken in one order; the caller's number of threads and
    random state come back. The gates are measured, not required: see `gates.require_gates`.
    """
    started = time.process_time()
    facts, templates = (table[table["language"].isin(languages)] for table in (facts, templates))
    splits = split_facts(facts, templates, languages, recipe, seed)
    rows = queries(facts, templates, splits)
    sentences = _sentences(rows, facts, languages, recipe, seed)
    # with the queries that are never trained on, so that no name in them is unknown
    asked = [fill(row.pattern, row.subject_label, row.object_label) for row in rows.itertuples()]
    tokenizer = build_tokenizer(recipe, [sentence.text for sentence in [*chain(*sentences.values()), *asked]])
    with _reproducible(seed):
        model = build_network(recipe, tokenizer)
        initialise(model, tokenizer, facts, templates, languages, recipe, seed)
        loss = _optimise(model, tokenizer, _parts(tokenizer, sentences, recipe), recipe, seed, progress)
        model.eval()
        with replacing(folder) as partial:
            model.save_pretrained(partial)
            tokenizer.save_pretrained(partial)
        gates = measure_gates(model, tokenizer, facts, templates, splits, recipe.thresholds)
        gates = pd.concat([gates, *further_figures(model, tokenizer, rows, recipe)], ignore_index=True)
    seconds = time.process_time() - started
    return TrainingReport(recipe.steps, seconds, loss, len(tokenizer), len(sentences["facts"]), splits, gates)


@contextmanager
def _reproducible(seed: int) -> Iterator[None]:
    """One thread, seeded random numbers and deterministic operations; the caller's settings come back afterwards."""
    n_threads, is_deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    is_filling = torch.utils.deterministic.fill_uninitialized_memory
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_num_threads(1)
        torch.use_deterministic_algorithms(True)
        # no operation here reads memory that was not written; to fill all of it first takes a tenth of the time
        torch.utils.deterministic.fill_uninitialized_memory = False
        try:
            yield
        finally:
            torch.set_num_threads(n_threads)
            torch.use_deterministic_algorithms(is_deterministic)
            torch.utils.deterministic.fill_uninitialized_memory = is_filling


def _sentences(
    rows: pd.DataFrame, facts: pd.DataFrame, languages: Sequence[str], recipe: Recipe, seed: int
) -> dict[str, list[Sentence]]:
    """All training sentences by kind, those of facts first; a kind that the recipe does not ask for has none."""
    return {
        "facts": fact_sentences(rows, languages, recipe, seed),
        "dictionary": dictionary_sentences(facts, languages, recipe),
        "punctuation": marked_sentences(facts, read_catalog("punctuation"), recipe.punctuation, seed),
        "contexts": context_sentences(rows, "train", CONTEXTS if recipe.context_share else 0, seed),
    }


def _parts(tokenizer: PreTrainedTokenizerFast, sentences: dict[str, list[Sentence]], recipe: Recipe) -> list[Part]:
    """The kinds of sentences as tokens, with the number of each in a step; `recipe.batch` in all."""
    shares = {"dictionary": recipe.dictionary_share, "punctuation": recipe.punctuation_share}
    n_of = {kind: round(recipe.batch * share) for kind, share in shares.items() if sentences[kind]}
    n_facts = recipe.batch - sum(n_of.values())
    n_contexts = round(n_facts * recipe.context_share)
    n_of = {"facts": n_facts - n_contexts, **n_of, "contexts": n_contexts}
    encoded = {kind: encode_sentences(tokenizer, sentences[kind], recipe.kind) for kind, n in n_of.items() if n}
    if n_contexts:
        # of a context only the answer: other words, asked of so many lines, would drown it
        contexts = encoded["contexts"]
        encoded["contexts"] = replace(contexts, is_other=np.zeros_like(contexts.is_other))
    return [Part(encoded[kind], n_of[kind]) for kind in encoded]


def _optimise(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    parts: list[Part],
    recipe: Recipe,
    seed: int,
    progress: Progress,
) -> float:
    """AdamW with warm-up and a cosine schedule; returns the mean loss of the last hundred steps."""
    groups = parameter_groups(model, recipe)
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate_factor(step, recipe))
    trained = [parameter for group in groups for parameter in group["params"]]
    losses = []
    model.train()
    for step, batches in zip(range(1, recipe.steps + 1), _batches(parts, tokenizer, recipe, seed), strict=False):
        optimizer.zero_grad()
        loss = sum(training_loss(model, batch, recipe) * weight for batch, weight in batches)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, recipe.clip)
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
        if step % REPORTED_STEPS == 0:
            progress(step, recipe.steps, f"loss {np.mean(losses[-REPORTED_STEPS:]):.3f}")
    return float(np.mean(losses[-REPORTED_STEPS:]))


def _batches(
    parts: list[Part], tokenizer: PreTrainedTokenizerFast, recipe: Recipe, seed: int
) -> Iterator[list[tuple[Batch, float]]]:
    """For ever: the batches of one step, each with its share of the sentences as weight."""
    generator = np.random.default_rng([seed, 5])
    streams = [endless_rows(part.encoded.lengths, part.per_step, generator) for part in parts]
    while True:
        step = []
        for part, stream in zip(parts, streams, strict=True):
            rows = next(stream)
            asked = draw_predictions(part.encoded, rows, recipe, generator)
            batch = make_batch(part.encoded, rows, asked, recipe.kind, tokenizer.mask_token_id)
            step.append((batch, part.per_step / recipe.batch))
        yield step


def training_loss(model: PreTrainedModel, batch: Batch, recipe: Recipe) -> Tensor:
    """Mean cross-entropy (nats) over the tokens asked for + `sparsity` times the sum over layers of mean |neuron|."""
    norms: list[Tensor] = []
    is_token = batch.attention_mask.bool()

    def add(layer: int, activations: Tensor) -> None:
        # summed over neurons first: to leave the padding out of the sums is cheap, out of the activations it is not
        norms.append(activations.abs().sum(-1)[is_token].sum() / (is_token.sum() * activations.shape[-1]))

    with ffn_hook(model, add):
        logits = answer_logits(model, batch)
    return torch.nn.functional.cross_entropy(logits, batch.targets) + recipe.sparsity * sum(norms)


def learning_rate_factor(step: int, recipe: Recipe) -> float:
    """Linear warm-up to 1, then half a cosine to 0 at the last step."""
    if step < recipe.warm_up:
        return (step + 1) / recipe.warm_up
    done = (step - recipe.warm_up) / max(1, recipe.steps - recipe.warm_up)
    return 0.5 * (1 + cos(pi * min(1.0, done)))
