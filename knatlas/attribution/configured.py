"""What the part `attribution` of a study asks for: the methods, what is checked, and what is kept of a fact."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from knatlas.attribution.candidates import Candidates
from knatlas.attribution.combination import Dense
from knatlas.attribution.methods import AttributionMethod, preset
from knatlas.attribution.screening import Screening


def configured_methods(settings: Mapping, kind: str) -> list[AttributionMethod]:
    """The methods that `run` names, for models of a kind: the preset, the study's quadrature, the method's own keys.

    Args: settings with `run`, `equations`, `quadrature`, `rtol` and `methods`; kind, "masked" or "causal".
    Raises: AtlasError for an unknown method or choice.
    """
    common = {"quadrature": settings["quadrature"], "rtol": settings["rtol"]}
    presets = [preset(name, settings["equations"], kind) for name in settings["run"]]
    return [replace(method, **{**common, **settings["methods"].get(method.name, {})}) for method in presets]


def configured_screening(settings: Mapping, kind: str) -> Screening | None:
    """How `atp` is checked, with the reference as the study runs it; None where the study asks for no check.

    Args: settings as of `knatlas.study.attribution_settings`; kind, "masked" or "causal". Raises: AtlasError.
    """
    asked = settings.get("screening")
    if asked is None:
        return None
    (reference,) = configured_methods({**settings, "run": [asked["reference"]]}, kind)
    return Screening(reference, asked["share"], tuple(asked["kept"]), asked["seed"])


def configured_keep(settings: Mapping, languages: Sequence[str]) -> Dense | Candidates:
    """What a shard keeps: all neurons in the one language of its job, or candidates over all languages of the model."""
    if settings["keep"] == "candidates":
        return Candidates(tuple(languages), settings["candidates"])
    (language,) = languages
    return Dense(language)
