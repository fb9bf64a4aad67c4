"""Which models and languages the experiment on causal fidelity takes, and mistakes in its settings."""

from collections.abc import Iterator, Mapping, Sequence

from knatlas.errors import unknown


def fidelity_languages(study: Mapping, model: str, known: Sequence[str]) -> list[str]:
    """Languages in which neurons of a model are ablated; none where the experiment leaves the model out.

    Args: known, those in which the model is studied.
    """
    settings = study["experiments"]["fidelity"]
    if settings["models"] != "all" and model not in settings["models"]:
        return []
    asked = settings["languages"]
    return list(known[:asked]) if isinstance(asked, int) else [language for language in known if language in asked]


def fidelity_mistakes(study: Mapping) -> Iterator[str]:
    """A sentence per mistake that the schema can't see."""
    settings, where = study["experiments"]["fidelity"], "experiments.fidelity"
    for key in ("models", "languages"):
        for i, name in enumerate(settings[key] if isinstance(settings[key], list) else []):
            if name not in study[key]:
                yield unknown(f"{where}.{key}[{i}]", name, f"one of the study's {key}", study[key])
    for i, name in enumerate(settings["exhaustive"]):
        if name not in settings["ablations"]:
            yield unknown(
                f"{where}.exhaustive[{i}]", name, "one of experiments.fidelity.ablations", settings["ablations"]
            )
