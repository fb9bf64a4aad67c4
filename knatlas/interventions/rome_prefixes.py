"""The prompts that ROME edits for: the bare one, and the same behind short texts that the model wrote."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from knatlas.interventions.editing import SLOT, EditRequest, prompt_of
from knatlas.models.encoding import EncodedQuery, encode_prompt
from knatlas.models.language_model import LanguageModel
from knatlas.models.subjects import read_position, subject_positions

ESSENCE = f"{SLOT} is a"  # what the model takes the subject for shall not change


@dataclass(frozen=True)
class Template:
    """A prompt with the new object, and the position whose key is written for."""

    query: EncodedQuery
    place: int


@torch.no_grad()
def sample_prefixes(
    lm: LanguageModel, prefix_lengths: Sequence[Sequence[int]], top_k: int, seed: int
) -> tuple[str, ...]:
    """Texts that the model continues the end-of-text token with, drawn among the `top_k` most probable tokens.

    Special tokens are not drawn. A length beyond what the model reads at once is cut to it.
    Args: prefix_lengths, pairs of a length in tokens and a number of texts. Returns: texts, blanks made single.
    """
    generator = torch.Generator().manual_seed(seed)
    texts = []
    for length, n_texts in prefix_lengths:
        ids = torch.full((n_texts, 1), lm.replacement_id, device=lm.device)
        for _ in range(min(length, (lm.n_positions or length + 1) - 1) if n_texts else 0):
            ids = torch.cat([ids, _drawn(lm, ids, top_k, generator)], dim=1)
        texts += [lm.tokenizer.decode(row, skip_special_tokens=True) for row in ids[:, 1:].tolist()]
    return tuple(" ".join(text.split()) for text in texts)


def _drawn(lm: LanguageModel, ids: Tensor, top_k: int, generator: torch.Generator) -> Tensor:
    """The next token (rows, 1) of each row, drawn by the processor so that the seed means the same on every device."""
    logits = lm.head(lm.hidden_states(ids, torch.ones_like(ids))[:, -1]).double().cpu()
    logits[:, [token for token in lm.tokenizer.all_special_ids if token < logits.shape[1]]] = -torch.inf
    logits[:, len(lm.tokenizer) :] = -torch.inf  # rows of the embedding that are no token
    best = logits.topk(min(top_k, logits.shape[1]), dim=1)
    choice = torch.multinomial(best.values.softmax(dim=1), 1, generator=generator)
    return best.indices.gather(1, choice).to(ids.device)


def templates_of(
    lm: LanguageModel, request: EditRequest, prefixes: Sequence[str], fact_token: str = "subject"
) -> list[Template]:
    """A request's bare prompt, then that prompt behind each prefix and a full stop, with the new object.

    A prefix loses words at its beginning until the whole fits into the model; one that loses all is left out.
    Raises: AtlasError when the bare prompt is too long, or as `encode_prompt` and `subject_positions` do.
    """
    fitting = (_fitting(lm, request, prefix) for prefix in prefixes)
    texts = [request.text, *(text for text in fitting if text is not None)]
    return [_template(lm, request, text, fact_token) for text in texts]


def _fitting(lm: LanguageModel, request: EditRequest, prefix: str) -> str | None:
    longest = lm.n_positions
    for text in _shortened(prefix, request.text):
        n_tokens = len(lm.tokenizer(f"{text} {request.target_new}")["input_ids"])
        if longest is None or n_tokens <= longest:
            return text
    return None


def _shortened(prefix: str, text: str) -> Iterator[str]:
    """A text behind a prefix, behind the prefix without its first word, and so on."""
    words = prefix.split(" ")
    for start in range(len(words)):
        yield f"{' '.join(words[start:])}. {text}"


def essence_of(lm: LanguageModel, request: EditRequest, fact_token: str = "subject") -> Template:
    """The prompt "{subject} is a"; the model reads it before the object, which stands there for the sake of form."""
    return _template(lm, request, ESSENCE.replace(SLOT, request.subject), fact_token)


def _template(lm: LanguageModel, request: EditRequest, text: str, fact_token: str) -> Template:
    row = prompt_of(text, request.target_new, lm.kind)
    query = encode_prompt(lm, row)
    is_end = fact_token == "end"
    return Template(query, read_position(query) if is_end else subject_positions(lm, row, request.subject)[-1])
