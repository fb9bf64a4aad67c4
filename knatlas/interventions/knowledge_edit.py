"""KN-E: one object is subtracted from the value vectors of neurons, another one added; and neurons erased."""

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from knatlas.errors import AtlasError, unknown
from knatlas.interventions.editing import Edit, Editor, EditRequest, edit_of, prompt_of
from knatlas.interventions.weights import (
    EMBEDDINGS,
    SCALINGS,
    Neurons,
    erase,
    object_embedding,
    token_embedding,
    update,
)
from knatlas.models.answers import answer_details
from knatlas.models.encoding import encode_prompt
from knatlas.models.language_model import LanguageModel

SUBTRACTED = ("object", "argmax")
PRESETS = ("default", "code")
CODE_LAMBDA1, CODE_LAMBDA2 = 2.0, 1.0  # the released code's factors

# The neurons that hold a request's fact.
NeuronsOf = Callable[[LanguageModel, EditRequest], Neurons]


@dataclass(frozen=True)
class KnowledgeEdit:
    """What KN-E writes into the value vectors of the neurons.

    lambda1, lambda2; scaling, `norm` or `raw`; embedding, rows of the `output` or `input` matrix: as of an update by
    Eq. 15 of MATRICE. subtract, E of the true `object`, or of the first token of the model's `argmax` continuation.
    preset `code` takes no notice of lambda1, lambda2, scaling and subtract: as in the released code, minus twice E of
    that first token, plus the sum of E over the new object's tokens, as they are.

    Raises: AtlasError for a word that is not allowed.
    """

    lambda1: float = 1.0
    lambda2: float = 8.0
    scaling: str = "norm"
    subtract: str = "object"
    embedding: str = "output"
    preset: str = "default"

    def __post_init__(self) -> None:
        words = [("scaling", self.scaling, SCALINGS), ("subtract", self.subtract, SUBTRACTED)]
        words += [("embedding", self.embedding, EMBEDDINGS), ("preset", self.preset, PRESETS)]
        for name, word, allowed in words:
            if word not in allowed:
                raise AtlasError(unknown(f"counterfact: {name}", word, "one of its words", allowed))


def kn_e(neurons_of: NeuronsOf, settings: KnowledgeEdit) -> Editor:
    """The editor KN-E: each value vector W of a request's neurons becomes W - lambda1 E(o_true) + lambda2 E(o_new).

    Args: neurons_of, of the localization paper the coarse set of B-KN on the rewrite prompt.
    """
    return lambda lm, request: object_replaced(lm, request, neurons_of(lm, request), settings)


def erasure(neurons_of: NeuronsOf) -> Editor:
    """The editor that sets the value vectors of a request's neurons to zero (Eq. 15 of MATRICE, erasure)."""
    return lambda lm, request: edit_of(erase(neurons_of(lm, request)))


def object_replaced(lm: LanguageModel, request: EditRequest, neurons: Neurons, settings: KnowledgeEdit) -> Edit:
    """KN-E's formula on given neurons; without neurons the edit that changes nothing."""
    if not len(neurons[0]):
        return edit_of(None)
    if settings.preset == "code":
        written = (_continuation(lm, request, settings.embedding), _sum_of_tokens(lm, request, settings.embedding))
        return edit_of(update(neurons, *written, CODE_LAMBDA1, CODE_LAMBDA2, "raw"))
    old = _subtracted(lm, request, settings)
    new = object_embedding(lm, request.target_new, settings.embedding)
    return edit_of(update(neurons, old, new, settings.lambda1, settings.lambda2, settings.scaling))


def _subtracted(lm: LanguageModel, request: EditRequest, settings: KnowledgeEdit) -> Float[Tensor, " hidden"]:
    if settings.subtract == "argmax":
        return _continuation(lm, request, settings.embedding)
    return object_embedding(lm, request.target_true, settings.embedding)


def _continuation(lm: LanguageModel, request: EditRequest, which: str) -> Float[Tensor, " hidden"]:
    """E of the token that the model finds most probable where the object's first token stands."""
    query = encode_prompt(lm, prompt_of(request, request.target_true, lm.kind))
    return token_embedding(lm, answer_details(lm, [query])["predicted"].iat[0][:1], which)


def _sum_of_tokens(lm: LanguageModel, request: EditRequest, which: str) -> Float[Tensor, " hidden"]:
    """The sum of E over the new object's tokens behind the prompt."""
    tokens = encode_prompt(lm, prompt_of(request, request.target_new, lm.kind)).targets
    return len(tokens) * token_embedding(lm, tokens, which)
