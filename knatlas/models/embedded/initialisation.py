"""Starting weights and learning rates of the embedded models, and what they build in.

Built in by construction, and to be said wherever results of these models are shown:
- Aligned token embeddings: names of one concept start close to each other in all languages. This stands in for
  multilingual pre-training; "neurons shared by languages exist" is therefore partly built in.
- Attention values and outputs start orthogonal and learn slowly or not at all, and token embeddings learn slowly, so
  that facts are stored in the FFN, where knowledge neurons are looked for.
- Below layer `attention_from` the attention writes nothing, so that FFNs have run at the subject's tokens before any
  other token reads them.
- BERT's head transform starts as the identity, so that what the last layer writes reaches the vocabulary as it is.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from knatlas.models.architectures import architecture_of, module_at
from knatlas.models.embedded.corpus import concept_names
from knatlas.models.embedded.recipe import Recipe

LANGUAGE_WEIGHT = 0.4  # length of the language's vector in a token's embedding, beside the concepts' of length 1
NOISE_WEIGHT = 0.5  # length of the token's own random vector
LINEAR_BIAS = 4.0  # moves normalised states to where ReLU and GELU are the identity; the head's LayerNorm removes it


def initialise(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    facts: pd.DataFrame,
    templates: pd.DataFrame,
    languages: Sequence[str],
    recipe: Recipe,
    seed: int,
) -> None:
    """Set the starting weights of an untrained model in place."""
    rows = aligned_embeddings(tokenizer, facts, templates, languages, recipe.width, seed) * recipe.embedding_scale
    with torch.no_grad():
        model.get_input_embeddings().weight.copy_(torch.from_numpy(rows.astype(np.float32)))
        for name, parameter in model.named_parameters():
            if "position_embeddings" in name or name.endswith("wpe.weight"):
                parameter.normal_(0.0, recipe.position_scale)
        for weight in _value_output_weights(model):
            nn.init.orthogonal_(weight, gain=recipe.value_output_scale)
        for parameter in silent_parameters(model, recipe):
            parameter.zero_()
        for weight in ffn_weights(model):
            weight.mul_(recipe.ffn_scale)
        if recipe.family == "bert":
            transform = model.cls.predictions.transform.dense
            nn.init.eye_(transform.weight)
            nn.init.constant_(transform.bias, LINEAR_BIAS)


def aligned_embeddings(
    tokenizer: PreTrainedTokenizerFast,
    facts: pd.DataFrame,
    templates: pd.DataFrame,
    languages: Sequence[str],
    width: int,
    seed: int,
) -> np.ndarray:
    """Token embeddings (vocabulary, width) in which names of one concept are similar in all languages.

    Row = unit(sum of the vectors of the concepts and relations in whose names and patterns the token occurs)
    + 0.4 unit(sum of the vectors of its languages) + 0.5 unit(noise), scaled to a root mean square of 1 per row.
    """
    generator = np.random.default_rng([seed, 3])
    concepts, tongues = (np.zeros((len(tokenizer), width)) for _ in range(2))
    tongue_vectors = {language: generator.standard_normal(width) for language in sorted(languages)}
    for texts in _texts_of_concepts(facts, templates, languages):
        vector = generator.standard_normal(width)
        tokens_of = {language: _tokens(tokenizer, texts[language]) for language in sorted(texts)}
        for language, tokens in tokens_of.items():
            tongues[tokens] += tongue_vectors[language]
        concepts[sorted(set().union(*tokens_of.values()))] += vector
    noise = generator.standard_normal((len(tokenizer), width))
    rows = _unit(concepts) + LANGUAGE_WEIGHT * _unit(tongues) + NOISE_WEIGHT * _unit(noise)
    return _unit(rows) * np.sqrt(width)


def _texts_of_concepts(
    facts: pd.DataFrame, templates: pd.DataFrame, languages: Sequence[str]
) -> Iterable[dict[str, list[str]]]:
    """For each concept, then each relation: language -> its names, or the pieces of its patterns."""
    for names in concept_names(facts, languages).values():
        yield {language: [label] for language, label in names.items()}
    wanted = templates[templates["language"].isin(languages)].sort_values(["relation", "language", "template"])
    for _, rows in wanted.groupby("relation", sort=True):
        texts: dict[str, list[str]] = {}
        for row in rows.itertuples():
            texts.setdefault(row.language, []).extend(row.pattern.replace("[Y]", "[X]").split("[X]"))
        yield texts


def _tokens(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> list[int]:
    """Tokens of texts at the beginning of a sentence and after a blank."""
    found: set[int] = set()
    for text in (text.strip() for text in texts):
        for form in (text, f" {text}"):
            found.update(tokenizer(form, add_special_tokens=False)["input_ids"] if text else [])
    return sorted(found)


def _unit(rows: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1; zero rows stay zero."""
    lengths = np.linalg.norm(rows, axis=-1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1.0)


def _value_output_weights(model: PreTrainedModel) -> list[Tensor]:
    """The attention's value and output matrices; GPT-2's value matrix is a block of its fused projection."""
    width = model.config.hidden_size
    found = []
    for name, parameter in model.named_parameters():
        if name.endswith("attn.c_attn.weight"):
            found.append(parameter[:, 2 * width :])
        elif is_value_or_output(name) and name.endswith("weight"):
            found.append(parameter)
    return found


def silent_parameters(model: PreTrainedModel, recipe: Recipe) -> list[nn.Parameter]:
    """Weights and biases of the attention's output below layer `recipe.attention_from`: zero, and never trained."""
    architecture = architecture_of(model.config.model_type)
    layers = module_at(model, architecture.layers)[: recipe.attention_from]
    return [one for layer in layers for one in module_at(layer, architecture.attention_output).parameters()]


def ffn_weights(model: PreTrainedModel) -> list[Tensor]:
    """All matrices of the FFNs."""
    architecture = architecture_of(model.config.model_type)
    paths = (*architecture.up_projections, architecture.down_projection)
    return [module_at(layer, path).weight for layer in module_at(model, architecture.layers) for path in paths]


def is_value_or_output(name: str) -> bool:
    """Whether a parameter belongs to the attention's value or output projection (GPT-2's fused projection does not)."""
    parts = (
        "attention.self.value.",
        "attention.output.dense.",
        "attn.c_proj.",
        "self_attn.v_proj.",
        "self_attn.o_proj.",
    )
    return any(part in name for part in parts)


def parameter_groups(model: PreTrainedModel, recipe: Recipe) -> list[dict[str, object]]:
    """Groups for the optimiser, each with its learning rate; parameters whose rate is 0 are frozen.

    Weight decay acts on matrices, not on biases, normalisation and embeddings.
    """
    tokens = model.get_input_embeddings().weight
    silent = set(silent_parameters(model, recipe))
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        factor = 1.0
        if parameter is tokens:
            factor = recipe.embedding_rate
        elif parameter in silent:
            factor = 0.0
        elif is_value_or_output(name):
            factor = recipe.value_output_rate
        parameter.requires_grad_(factor > 0)
        decay = recipe.weight_decay if parameter.ndim == 2 and parameter is not tokens else 0.0
        if factor > 0:
            groups.setdefault((factor * recipe.learning_rate, decay), []).append(parameter)
    return [{"params": group, "lr": rate, "weight_decay": decay} for (rate, decay), group in groups.items()]
