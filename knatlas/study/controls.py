"""The part `controls` of a study: which models are controlled, in how many shards, and mistakes in it."""

from collections.abc import Iterator, Mapping

from knatlas.errors import unknown


def controlled_models(study: Mapping) -> list[str]:
    """The models in which negative controls are run; none where the study has no control."""
    named = study["controls"]["models"]
    return [name for name in study["models"] if study["controls"]["kinds"] and (named == "all" or name in named)]


def control_shards(study: Mapping, n_shards: int) -> int:
    """Shards of a control's facts, with about as many facts each as those of the real ones (n_shards), at least one."""
    most, localised = study["controls"]["facts"], study["localisation"]["facts"]
    if most is None or localised is None:
        return min(n_shards, most or n_shards)
    return max(1, -(-n_shards * min(most, localised) // localised))


def control_tracing(study: Mapping) -> dict:
    """The settings of causal tracing under a control: those of the real one, on at most `controls.facts` facts.

    The real trace follows P of the prediction, in the facts that count the answer's first token; a control's answer is
    hardly ever predicted, so that P of its first token is followed itself.
    """
    settings = study["experiments"]["causal_tracing"]
    given = [most for most in (settings["facts"], study["controls"]["facts"]) if most is not None]
    target = "first_token" if settings["target"] == "prediction" else settings["target"]
    return {**settings, "facts": min(given, default=None), "target": target}


def control_mistakes(study: Mapping) -> Iterator[str]:
    """A sentence per mistake."""
    named = study["controls"]["models"]
    for i, model in enumerate(named if isinstance(named, list) else []):
        if model not in study["models"]:
            yield unknown(f"controls.models[{i}]", model, "a model of the study", study["models"])
