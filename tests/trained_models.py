"""Small models trained here until they know facts by heart: their paths hold cliffs that random models do not have."""

from functools import cache

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import BertConfig, BertForMaskedLM, GPT2Config, GPT2LMHeadModel, PreTrainedModel
from transformers import PreTrainedTokenizerFast as FastTokenizer

from knatlas.models.encoding import EncodedQuery
from knatlas.models.language_model import LanguageModel, as_language_model

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[END]")
MASK, END = SPECIAL.index("[MASK]"), SPECIAL.index("[END]")
# a fact is six words (its subject is words 1 and 2, its relation the others), then its object
N_WORDS, N_OBJECTS, LENGTH = 60, 10, 6


def _facts(n_facts: int) -> tuple[Tensor, Tensor]:
    """Words (facts, 6) and objects (facts,) as token ids, drawn from seeded random numbers, no two subjects equal."""
    generator = torch.Generator().manual_seed(7)
    subjects = torch.randperm(20 * 20, generator=generator)[:n_facts]
    words = torch.randint(40, 60, (n_facts, LENGTH), generator=generator)
    words[:, 1], words[:, 2] = subjects // 20, 20 + subjects % 20
    objects = torch.randint(N_OBJECTS, (n_facts,), generator=generator)
    return len(SPECIAL) + words, len(SPECIAL) + N_WORDS + objects


def _tokenizer() -> FastTokenizer:
    """A vocabulary of words w0, w1, ...: token ids are what the models and queries here are made of."""
    names = [*SPECIAL, *(f"w{word}" for word in range(N_WORDS + N_OBJECTS))]
    tokenizer = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return FastTokenizer(tokenizer_object=tokenizer, pad_token="[PAD]", mask_token="[MASK]", eos_token="[END]")


def _network(kind: str, layers: int, width: int) -> PreTrainedModel:
    """An untrained BERT (kind "masked") or GPT-2 ("causal") with four times `width` neurons per layer, no dropout."""
    n_tokens = len(SPECIAL) + N_WORDS + N_OBJECTS
    if kind == "causal":
        sizes = {"n_embd": width, "n_layer": layers, "n_head": 4, "n_positions": 16, "vocab_size": n_tokens}
        drops = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
        return GPT2LMHeadModel(GPT2Config(**sizes, **drops, bos_token_id=END, eos_token_id=END))
    sizes = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": 4, "vocab_size": n_tokens}
    sizes |= {"intermediate_size": 4 * width, "max_position_embeddings": 16}
    return BertForMaskedLM(BertConfig(**sizes, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0))


def _inputs(kind: str, words: Tensor) -> Tensor:
    """Token ids of the queries: causal models predict after the last word, masked ones at a mask behind it."""
    return words if kind == "causal" else torch.cat([words, torch.full((len(words), 1), MASK)], dim=1)


@cache
def memorised(
    kind: str, n_facts: int = 40, layers: int = 2, width: int = 48, steps: int = 300, dtype: str = "float64"
) -> tuple[LanguageModel, list[EncodedQuery]]:
    """A model of a kind ("causal": GPT-2, "masked": BERT) trained on `n_facts` facts, and their queries."""
    words, objects = _facts(n_facts)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = _network(kind, layers, width)
        inputs = _inputs(kind, words)
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
        for _ in range(steps):
            logits = model(input_ids=inputs).logits[:, -1]
            loss = torch.nn.functional.cross_entropy(logits, objects)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    queries = [_query(kind, *fact) for fact in enumerate(zip(inputs.tolist(), objects.tolist(), strict=True))]
    lm = as_language_model(f"memorised-{kind}", model.to(getattr(torch, dtype)), _tokenizer(), revision="trained")
    return lm, queries


def _query(kind: str, number: int, fact: tuple[list[int], int]) -> EncodedQuery:
    """One fact as a query: all of its words are replaceable, the mask is not."""
    ids, answer = fact
    last = (len(ids) - 1,)
    return EncodedQuery(f"fact-{number}", "en", 0, kind, tuple(ids), last, (answer,), tuple(range(LENGTH)))
