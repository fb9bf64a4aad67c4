"""The evaluating function of a real model: P(answer) of queries while chosen neurons are scaled."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from knatlas.errors import AtlasError
from knatlas.experiments.measurement import Evaluate, Request
from knatlas.interventions.activations import NeuronScaling
from knatlas.models.answers import answer_probabilities
from knatlas.models.encoding import EncodedQuery, encode_prompt
from knatlas.models.language_model import LanguageModel


def evaluate_with(
    lm: LanguageModel, prompts: pd.DataFrame, batch_rows: int, positions: str = "answer", site: str = "down_input"
) -> Evaluate:
    """A function from requests to P(answer) and whether every answer token is the argmax.

    Args: prompts of the model's kind; batch_rows, rows of a forward pass (speed and memory only); positions at which
    neurons are scaled, `answer`, `last` or `all`; site, the place of the neurons' values in causal models (masked ones
    are always scaled at the input of the down projection, as in released code).
    """
    encode, site = QueryEncoder(lm, prompts), site if lm.kind == "causal" else "down_input"

    def evaluate(requests: Sequence[Request]) -> tuple[np.ndarray, np.ndarray]:
        queries = [encode(request.fact, request.language, request.query) for request in requests]
        answers = answer_probabilities(
            lm, queries, batch_rows, [_scaling(request) for request in requests], positions, site
        )
        return answers["p"].to_numpy(), answers["is_argmax"].to_numpy(bool)

    return evaluate


class QueryEncoder:
    """Token ids of prompts by fact, language and query; each prompt is tokenised once, when it is first needed."""

    def __init__(self, lm: LanguageModel, prompts: pd.DataFrame):
        of_kind = prompts[prompts["kind"] == lm.kind]
        self.lm, self.encoded = lm, {}
        self.rows = {(row.fact, row.language, row.query): row for row in of_kind.itertuples(index=False)}

    def __call__(self, *key: object) -> EncodedQuery:
        if key not in self.rows:
            raise AtlasError(
                f"{self.lm.name}: no {self.lm.kind} prompt of fact {key[0]}, language {key[1]}, query {key[2]}"
            )
        if key not in self.encoded:
            self.encoded[key] = encode_prompt(self.lm, self.rows[key])
        return self.encoded[key]


def _scaling(request: Request) -> NeuronScaling | None:
    if not len(request.layers):
        return None
    return NeuronScaling(request.layers, request.indices, request.factor, request.shift)
