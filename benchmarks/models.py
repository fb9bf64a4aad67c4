"""Models of real sizes with random weights, and queries for them: nothing is downloaded.

Weights are normal with variance 1 / fan-in; the embedding is scaled so that the most probable token has a probability
of some percent to some tens of percent, as the answers of a trained model have.
"""

from dataclasses import dataclass, replace
from types import MappingProxyType

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from knatlas.errors import AtlasError, unknown
from knatlas.models.architectures import architecture_of
from knatlas.models.encoding import EncodedQuery
from knatlas.models.language_model import LanguageModel, as_language_model

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[EOS]")
P_RANGE = (0.05, 0.3)
MOST_DRAWS = 200


@dataclass(frozen=True)
class Shape:
    """The sizes of a model; `key_value_heads` counts where it is a llama, `embedding_std` is of the embedding."""

    name: str
    model_type: str
    layers: int
    hidden: int
    neurons: int
    vocabulary: int
    heads: int
    key_value_heads: int
    embedding_std: float


SHAPES = MappingProxyType(
    {
        "gpt2": Shape("GPT-2 size, 12 x 768 x 3072, 50,257 words", "gpt2", 12, 768, 3072, 50257, 12, 12, 0.14),
        "mbert": Shape("mBERT size, 12 x 768 x 3072, 119,547 words", "bert", 12, 768, 3072, 119547, 12, 12, 0.14),
        "llama": Shape("Llama, 8 x 512 x 1408, 32,000 words, heads 8/4", "llama", 8, 512, 1408, 32000, 8, 4, 0.16),
    }
)


def small(shape: Shape) -> Shape:
    """The same architecture with 3 layers of size 64 and 500 words: for trying the benchmarks out."""
    sizes = {"layers": 3, "hidden": 64, "neurons": 256, "vocabulary": 500, "heads": 4, "key_value_heads": 2}
    return replace(shape, name=f"small {shape.model_type}", embedding_std=0.35, **sizes)


def shape_of(name: str) -> Shape:
    """A shape by its name in `SHAPES`. Raises: AtlasError."""
    if name not in SHAPES:
        raise AtlasError(unknown("The shape of a benchmark's model", name, "one of", SHAPES))
    return SHAPES[name]


def tokenizer_of(vocabulary: int, kind: str) -> PreTrainedTokenizerFast:
    """Whole words w6, w7, ... after the special tokens; nothing is put around a sentence."""
    words = [*SPECIAL, *(f"w{number}" for number in range(len(SPECIAL), vocabulary))]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token", "eos_token")
    options = dict(zip(names, SPECIAL, strict=True))
    # GPT-2 would add an embedding for token types that it is given
    options["model_input_names"] = ["input_ids", *(["token_type_ids"] if kind == "masked" else []), "attention_mask"]
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **options)


def _config(shape: Shape) -> object:
    """The configuration: no dropout, which released configurations have and evaluation leaves out."""
    sizes = {
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "attn_implementation": "sdpa",
        "bos_token_id": SPECIAL.index("[EOS]"),
        "eos_token_id": SPECIAL.index("[EOS]"),
        "pad_token_id": SPECIAL.index("[PAD]"),
    }
    sizes["n_inner" if shape.model_type == "gpt2" else "intermediate_size"] = shape.neurons
    if shape.model_type == "llama":
        sizes |= {"num_key_value_heads": shape.key_value_heads, "tie_word_embeddings": False}
    return AutoConfig.for_model(shape.model_type, **sizes)


def random_model(shape: Shape, dtype: torch.dtype = torch.float32, device: str = "cpu", seed: int = 0) -> LanguageModel:
    """A model of a shape with seeded weights, in evaluation mode, on the device; weights are drawn in its dtype."""
    kind = architecture_of(shape.model_type).kind
    loader = AutoModelForMaskedLM if kind == "masked" else AutoModelForCausalLM
    with torch.device(device):
        model = loader.from_config(_config(shape), dtype=dtype)
    generator = torch.Generator(device).manual_seed(seed)
    for module in model.modules():
        _draw(module, shape.embedding_std, generator)
    head = model.get_output_embeddings()
    head.weight.data.normal_(0.0, shape.embedding_std, generator=generator)
    model.tie_weights()
    return as_language_model(shape.name, model, tokenizer_of(shape.vocabulary, kind), "random")


@torch.no_grad()
def _draw(module: nn.Module, embedding_std: float, generator: torch.Generator) -> None:
    """Draw a module's own weight; norms and biases stay one and zero."""
    weight: Tensor | None = getattr(module, "weight", None)
    if weight is None or weight.dim() != 2:
        return
    n_inputs = module.nx if hasattr(module, "nx") else weight.shape[1]  # Conv1D holds its matrix transposed
    std = embedding_std if isinstance(module, nn.Embedding) else n_inputs**-0.5
    weight.normal_(0.0, std, generator=generator)


def random_queries(lm: LanguageModel, n_tokens: int, n_queries: int, seed: int = 0) -> list[EncodedQuery]:
    """Different queries of `n_tokens` tokens whose answer is the model's most probable token, P in `P_RANGE`.

    Masked models: [CLS] words [MASK] [SEP], the mask before the last token. Raises: AtlasError where no draw fits.
    """
    generator, queries = torch.Generator().manual_seed(seed), []
    for _ in range(MOST_DRAWS * n_queries):
        ids = torch.randint(len(SPECIAL), lm.n_vocabulary, (n_tokens,), generator=generator).tolist()
        query = _query(lm, tuple(ids), len(queries))
        if query is not None:
            queries.append(query)
        if len(queries) == n_queries:
            return queries
    raise AtlasError(
        f"{lm.name}: {MOST_DRAWS} draws per query gave {len(queries)} of {n_queries} answers with a probability "
        f"in {P_RANGE}; change the shape's embedding_std."
    )


def _query(lm: LanguageModel, ids: tuple[int, ...], number: int) -> EncodedQuery | None:
    """A query with the most probable token as its answer, or None where its probability lies outside `P_RANGE`."""
    position, replaceable = len(ids) - 1, range(len(ids))
    if lm.kind == "masked":
        position, replaceable = len(ids) - 2, range(1, len(ids) - 2)
        ids = (SPECIAL.index("[CLS]"), *ids[1:position], lm.mask_id, SPECIAL.index("[SEP]"))
    p, target = most_probable(lm.model, ids, position)
    if target < len(SPECIAL) or not P_RANGE[0] <= p <= P_RANGE[1]:
        return None
    return EncodedQuery(f"fact-{number}", "en", 0, lm.kind, ids, (position,), (target,), tuple(replaceable))


@torch.no_grad()
def most_probable(model: PreTrainedModel, ids: tuple[int, ...], position: int) -> tuple[float, int]:
    """Probability and id of the most probable token at a position."""
    logits = model(input_ids=torch.tensor([ids], device=model.device)).logits[0, position]
    p, target = logits.float().softmax(-1).max(-1)
    return p.item(), target.item()


def text_of(lm: LanguageModel, ids: tuple[int, ...]) -> str:
    """The words of token ids, which the tokenizer turns back into the same ids."""
    return " ".join(lm.tokenizer.convert_ids_to_tokens(list(ids)))
