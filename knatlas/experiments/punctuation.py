"""Neurons of punctuation marks, and of random words beside them (Table 2 of the localization paper)."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int

from knatlas.attribution.engine import attribute_queries
from knatlas.attribution.methods import AttributionMethod
from knatlas.experiments.punctuation_prompts import CELL, LANGUAGE, Punctuation, encode_or_reason, punctuation_prompts
from knatlas.models.answers import BATCH_ROWS, answer_probabilities
from knatlas.models.encoding import EncodedQuery
from knatlas.models.language_model import LanguageModel
from knatlas.progress import Report, silent
from knatlas.selection.thresholds import NONE_LEFT_OUT, choose_above

__all__ = ["ANSWER_COLUMNS", "NEURON_COLUMNS", "Punctuation", "PunctuationNeurons", "find_punctuation_neurons"]

CHUNK = 64  # queries handed to the engine at once: enough of like length, few dense scores in memory
PLACE = ["model", "language", *CELL]
NEURON_COLUMNS = [*PLACE, "layer", "index", "n_sets", "n_sentences", "rank"]
ANSWER_COLUMNS = [*PLACE, "number", "answer", "p", "is_right", "n_neurons", "left_out"]
Neuron = tuple[int, int]


class PunctuationNeurons(NamedTuple):
    """neurons: NEURON_COLUMNS; answers: ANSWER_COLUMNS; n_dropped: by reading, neurons in some set that are not kept.

    A kept neuron has a row for every mark and for the control. n_sets: sentences whose coarse set holds the neuron, of
    n_sentences. rank: 1 + neurons of the model that are in more sets of that mark. In answers, left_out says why a
    sentence has no numbers: "too_long" for the model, "unknown" where the tokenizer has no token for the answer.
    """

    neurons: pd.DataFrame
    answers: pd.DataFrame
    n_dropped: dict[str, int]


def find_punctuation_neurons(
    lm: LanguageModel,
    sentences: pd.DataFrame,
    settings: Punctuation,
    method: AttributionMethod,
    seed: int = 0,
    watched: Iterable[Neuron] = (),
    batch_rows: int = BATCH_ROWS,
    attribution_rows: int = 0,
    progress: Report = silent,
) -> PunctuationNeurons:
    """Count in how many sentences' coarse sets each neuron is, for answers that are a mark, and for random words.

    The paper attributes the mark at the end of each sentence. Attributing the first token of a random inner word as
    well shows which neurons serve any prediction.

    Args: sentences (mark, sentence without its mark, number); method, KN attribution; watched, neurons that are kept
    however few sets they are in; batch_rows and attribution_rows (0: as many as memory allows), speed and memory only.
    A mark's neuron with the most sets is kept too.
    """
    prompts = punctuation_prompts(lm.kind, sentences, settings, seed)
    encoded = [encode_or_reason(lm, row) for row in prompts.itertuples(index=False)]
    asked = [number for number, query in enumerate(encoded) if isinstance(query, EncodedQuery)]
    queries = [encoded[number] for number in asked]
    cells = prompts[CELL].drop_duplicates(ignore_index=True)
    cell_of = prompts.groupby(CELL, sort=False).ngroup().to_numpy()[asked]
    search = (settings.ratio, replace(method, steps=settings.steps), attribution_rows)
    counts, sizes = _count(lm, queries, cell_of, len(cells), search, progress)
    answers = prompts.assign(left_out=[query if isinstance(query, str) else "" for query in encoded])
    answers = _with_answers(lm, answers, queries, sizes, batch_rows)
    n_sentences = np.bincount(cell_of, minlength=len(cells))
    neurons, n_dropped = _neuron_table(cells, counts, n_sentences, settings.kept_share, list(watched))
    place = {"model": lm.name, "language": LANGUAGE}
    return PunctuationNeurons(
        neurons.assign(**place)[NEURON_COLUMNS], answers.assign(**place)[ANSWER_COLUMNS], n_dropped
    )


def _count(
    lm: LanguageModel,
    queries: Sequence[EncodedQuery],
    cell_of: np.ndarray,
    n_cells: int,
    search: tuple[float, AttributionMethod, int],
    progress: Report,
) -> tuple[Int[np.ndarray, "cell layer neuron"], Int[np.ndarray, " query"]]:
    """In how many coarse sets of each cell each neuron is, and the size of each query's set."""
    counts = np.zeros((n_cells, lm.n_layers, lm.n_neurons), dtype=np.int32)
    sizes = np.zeros(len(queries), dtype=np.int64)
    for number, is_chosen in _coarse_sets(lm, queries, *search, progress):
        counts[cell_of[number]] += is_chosen
        sizes[number] = is_chosen.sum()
    return counts, sizes


def _coarse_sets(
    lm: LanguageModel,
    queries: Sequence[EncodedQuery],
    ratio: float,
    method: AttributionMethod,
    rows: int,
    progress: Report,
) -> Iterator[tuple[int, Bool[np.ndarray, "layer neuron"]]]:
    """Number and coarse set of each query: score > ratio * max, none where no score is positive."""
    # like sentences together: the engine runs those of equal length at once
    order = sorted(range(len(queries)), key=lambda number: len(queries[number].input_ids))
    for start in range(0, len(order), CHUNK):
        chunk = order[start : start + CHUNK]
        found = attribute_queries(lm, [queries[number] for number in chunk], [method], rows, completeness=False)
        for number, attribution in zip(chunk, found, strict=True):
            yield number, choose_above(attribution.scores[method.name], ratio, NONE_LEFT_OUT).is_chosen
        progress(start + len(chunk), len(order), "sentences")


def _with_answers(
    lm: LanguageModel, prompts: pd.DataFrame, queries: Sequence[EncodedQuery], sizes: np.ndarray, batch_rows: int
) -> pd.DataFrame:
    """The prompts with P, whether the answer is the argmax, and the size of the coarse set; missing if left out."""
    asked = prompts.index[prompts["left_out"] == ""]
    found = answer_probabilities(lm, queries, batch_rows).set_index(asked)
    measured = pd.DataFrame({"p": found["p"], "is_right": found["is_argmax"], "n_neurons": sizes}, index=asked)
    kinds = {"p": "float64", "is_right": "boolean", "n_neurons": "Int64"}
    return prompts.join(measured.astype(kinds).reindex(prompts.index))


def _neuron_table(
    cells: pd.DataFrame, counts: np.ndarray, n_sentences: np.ndarray, kept_share: float, watched: list[Neuron]
) -> tuple[pd.DataFrame, dict[str, int]]:
    """The kept neurons' rows in every cell of their reading, and how many neurons of some set are not kept."""
    parts, n_dropped = [], {}
    for reading, rows in cells.groupby("reading", sort=False).indices.items():
        is_kept = _kept(counts[rows], n_sentences[rows], kept_share, watched)
        n_dropped[reading] = int((counts[rows].any(axis=0) & ~is_kept).sum())
        layers, indices = np.nonzero(is_kept)
        for row in rows:
            part = {
                "layer": layers,
                "index": indices,
                "n_sets": counts[row][is_kept],
                "rank": _ranks(counts[row], is_kept),
            }
            parts.append(pd.DataFrame(part).assign(**cells.loc[row], n_sentences=n_sentences[row]))
    return pd.concat(parts, ignore_index=True), n_dropped


def _kept(counts: np.ndarray, n_sentences: np.ndarray, kept_share: float, watched: list[Neuron]) -> np.ndarray:
    """The neurons in more than a share of some cell's sets, each cell's most frequent one, and those watched."""
    is_kept = (counts > kept_share * n_sentences[:, None, None]).any(axis=0)
    for of_cell in counts:
        is_kept[np.unravel_index(of_cell.argmax(), of_cell.shape)] |= of_cell.any()
    for layer, index in watched:
        if layer < is_kept.shape[0] and index < is_kept.shape[1]:
            is_kept[layer, index] = True
    return is_kept


def _ranks(counts: Int[np.ndarray, "layer neuron"], is_kept: np.ndarray) -> np.ndarray:
    """1 + the number of neurons with a larger count, for those kept."""
    ordered = np.sort(counts, axis=None)
    return 1 + counts.size - np.searchsorted(ordered, counts[is_kept], side="right")
