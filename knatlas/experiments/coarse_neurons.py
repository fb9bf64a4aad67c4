"""The coarse sets of B-KN of requests to edit: attributed once for all, in chunks."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from knatlas.attribution.engine import attribute_queries
from knatlas.attribution.methods import preset
from knatlas.interventions.editing import EditRequest, prompt_of
from knatlas.interventions.weights import Neurons
from knatlas.models.encoding import EncodedQuery, encode_prompt
from knatlas.models.language_model import LanguageModel
from knatlas.progress import Report, silent
from knatlas.selection.thresholds import NONE_LEFT_OUT, choose_above

CHUNK = 64  # queries handed to the engine at once: enough of like length, few dense scores in memory


def coarse_neurons(
    lm: LanguageModel,
    requests: Sequence[EditRequest],
    ratio: float = 0.2,
    steps: int = 20,
    equations: str = "default",
    attribution_rows: int = 0,
    progress: Report = silent,
) -> Mapping[EditRequest, Neurons]:
    """The neurons of each request whose B-KN score of P(o_true) on its prompt is above ratio * the largest score.

    Where no score is positive the set is empty. Args: steps of the integral; equations, the reading of B-KN ("default",
    "paper", or "code": as released, also with o_true without a blank before it); attribution_rows of a sweep (0: as
    many as memory allows), speed and memory only.
    """
    method = replace(preset("bkn", equations, lm.kind), steps=steps)
    queries = [_query(lm, request, equations) for request in requests]
    order = sorted(range(len(queries)), key=lambda number: (len(queries[number].input_ids), queries[number].positions))
    found: dict[EditRequest, Neurons] = {}
    for start in range(0, len(order), CHUNK):
        chunk = order[start : start + CHUNK]
        of_chunk = [queries[number] for number in chunk]
        dense = attribute_queries(lm, of_chunk, [method], attribution_rows, completeness=False)
        for number, attribution in zip(chunk, dense, strict=True):
            found[requests[number]] = coarse_set(attribution.scores[method.name], ratio)
        progress(start + len(chunk), len(order), "coarse sets")
    return found


def coarse_set(scores: Float[np.ndarray, "layer neuron"], ratio: float) -> Neurons:
    """The neurons above ratio * the largest score, by layer and index; none where no score is positive."""
    return np.nonzero(choose_above(scores, ratio, NONE_LEFT_OUT).is_chosen)


def _query(lm: LanguageModel, request: EditRequest, equations: str) -> EncodedQuery:
    prompt = prompt_of(request, request.target_true, lm.kind)
    if equations == "code":
        prompt.separator = ""
    return encode_prompt(lm, prompt)
