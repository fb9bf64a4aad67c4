"""The model types that have blocks."""

from knatlas.models.blocks import bloom, distilbert, encoder, gemma, gpt2, neox, opt, rotary
from knatlas.models.blocks.network import Build, Network, NoFastPath
from knatlas.models.language_model import LanguageModel

FAMILIES = (encoder, distilbert, gpt2, neox, opt, bloom, rotary, gemma)
BUILDERS: dict[str, Build] = {name: build for family in FAMILIES for name, build in family.BUILDERS.items()}


def network_of(lm: LanguageModel) -> Network:
    """The network of a model. Raises: NoFastPath with the reason where a part of it is not known."""
    if lm.architecture.model_type not in BUILDERS:
        raise NoFastPath(f"model type '{lm.architecture.model_type}' has no blocks")
    return BUILDERS[lm.architecture.model_type](lm)
