"""What a real model says to a request: its most probable tokens, or the most probable object of the relation."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from knatlas.errors import AtlasError, unknown
from knatlas.experiments.cases import Top, TopOf
from knatlas.experiments.enhancement import NOTIONS, Predict
from knatlas.experiments.measurement import Request
from knatlas.models.answers import answer_probabilities
from knatlas.models.encoding import EncodedQuery, encode_prompt
from knatlas.models.language_model import LanguageModel
from knatlas.models.scaling import NeuronScaling
from knatlas.models.top_tokens import token_text, top_tokens


def predict_with(
    lm: LanguageModel,
    prompts: pd.DataFrame,
    batch_rows: int,
    positions: str = "answer",
    site: str = "down_input",
    notion: str = "exact",
) -> Predict:
    """A function from requests to what the model says.

    notion `exact`: the most probable token at the first position of the answer; `ranked`: of all objects of the
    relation in the language, as the table `prompts` has them, the one with the largest P (a forward row for each).
    Other arguments as in `evaluate_with`. Raises: AtlasError for another notion.
    """
    if notion not in NOTIONS:
        raise AtlasError(unknown("notion", notion, "a notion of the right answer", NOTIONS))
    if notion == "ranked":
        return _predict_objects(_Queries(lm, prompts, site), batch_rows, positions)
    top_of = top_of_with(lm, prompts, batch_rows, positions, site, 1)
    return lambda requests: [tops[0].token for tops in top_of(requests)]


def top_of_with(
    lm: LanguageModel,
    prompts: pd.DataFrame,
    batch_rows: int,
    positions: str = "answer",
    site: str = "down_input",
    k: int = 5,
) -> TopOf:
    """A function from requests to the `k` most probable tokens at the first position of the answer."""
    known = _Queries(lm, prompts, site)

    def top_of(requests: Sequence[Request]) -> list[list[Top]]:
        queries, scalings = [known.encode(request) for request in requests], _scalings(requests)
        ids, p = top_tokens(lm, queries, k, batch_rows, scalings, positions, known.site)
        return [_tops(lm, *of_one) for of_one in zip(queries, ids.tolist(), p.tolist(), strict=True)]

    return top_of


class _Queries:
    """The prompts of a model's kind by request, with their own answer or another; tokenised once per answer."""

    def __init__(self, lm: LanguageModel, prompts: pd.DataFrame, site: str):
        # as in `evaluate_with`: masked models are always scaled at the neuron itself
        self.lm, self.site = lm, site if lm.kind == "causal" else "down_input"
        of_kind = prompts[prompts["kind"] == lm.kind]
        self.rows = {(row.fact, row.language, row.query): row for row in of_kind.itertuples(index=False)}
        answers = of_kind.groupby(["relation", "language"])["answer"]
        self.objects = answers.agg(lambda labels: tuple(dict.fromkeys(labels))).to_dict()
        self.encoded: dict[tuple, EncodedQuery] = {}

    def row(self, request: Request) -> object:
        """The prompt of a request."""
        key = (request.fact, request.language, request.query)
        if key not in self.rows:
            place = f"fact {key[0]}, language {key[1]}, query {key[2]}"
            raise AtlasError(f"{self.lm.name}: no {self.lm.kind} prompt of {place}; rerun build_prompts")
        return self.rows[key]

    def encode(self, request: Request, answer: str | None = None) -> EncodedQuery:
        """The token ids of a request's prompt, with another answer if one is given."""
        row = self.row(request)
        row = row if answer is None else row._replace(answer=answer)
        key = (row.fact, row.language, row.query, row.answer)
        if key not in self.encoded:
            self.encoded[key] = encode_prompt(self.lm, row)
        return self.encoded[key]

    def objects_of(self, request: Request) -> tuple[str, ...]:
        """All objects of the request's relation in its language."""
        row = self.row(request)
        return self.objects[row.relation, row.language]


def _predict_objects(known: _Queries, batch_rows: int, positions: str) -> Predict:
    def predict(requests: Sequence[Request]) -> list[str]:
        objects = [known.objects_of(request) for request in requests]
        pairs = list(zip(requests, objects, _scalings(requests), strict=True))
        queries = [known.encode(request, label) for request, labels, _ in pairs for label in labels]
        scalings = [scaling for _, labels, scaling in pairs for _ in labels]
        answers = answer_probabilities(known.lm, queries, batch_rows, scalings, positions, known.site)
        parts = np.split(answers["p"].to_numpy(), np.cumsum([len(labels) for labels in objects])[:-1])
        return [labels[int(p.argmax())] for labels, p in zip(objects, parts, strict=True)]

    return predict


def _scalings(requests: Sequence[Request]) -> list[NeuronScaling | None]:
    return [
        NeuronScaling(request.layers, request.indices, request.factor) if len(request.layers) else None
        for request in requests
    ]


def _tops(lm: LanguageModel, query: EncodedQuery, ids: list[int], p: list[float]) -> list[Top]:
    return [Top(token_text(lm, token), share, token == query.targets[0]) for token, share in zip(ids, p, strict=True)]
