# What the localization paper's experiments are run with, and which files they take.

PUNCTUATION_CORPUS = config["experiments"]["punctuation"]["corpus"]


def punctuation_settings(*names):
    """Some of the settings of punctuation neurons: finding them does not depend on how they are counted."""
    return {name: config["experiments"]["punctuation"][name] for name in names}


def dataset_of(experiment, dataset):
    """What an experiment's source needs: nothing for the study's facts, else the folder of a data set, or one's own file."""
    source = config["experiments"][experiment]["source"]
    folder = f"{config['facts']['folder'] or 'data'}/{dataset}"
    return [] if source == "facts" else folder if source == dataset else source


def file_of(experiment, dataset):
    """The file of an experiment's source; None for the study's facts."""
    source = config["experiments"][experiment]["source"]
    path = dataset_of(experiment, dataset)
    return f"{path}/{dataset}.json" if source == dataset else path or None


def edits_by_rome(model):
    """Under which names ROME edits a model (`rome_last`: in the last layer but one); causal models alone."""
    localized = config["experiments"]["counterfact"]["editors"] if HAS_LOCALIZATION and model in LOCALIZED else []
    reference = (
        config["experiments"]["weight_edits"]["reference_editors"] if HAS_MATRICE and model in MULTILINGUAL else []
    )
    is_causal = MODELS[model]["kind"] == "causal"
    return [name for name in ("rome", "rome_last") if is_causal and name in [*localized, *reference]]


def rome_layer(wildcards):
    """The layer that ROME edits in a model."""
    layers = config["experiments"]["rome"]["layers"]
    return layers.get(wildcards.model, layers["default"])


def rome_layers(wildcards):
    """The layers whose keys ROME weighs."""
    chosen = {"rome": rome_layer(wildcards), "rome_last": "last"}
    return [chosen[name] for name in edits_by_rome(wildcards.model)]


def rome_settings(wildcards):
    """How ROME edits a model."""
    settings = settings_of("rome")
    return {name: settings[name] for name in settings if name not in ("layers", "key_text")} | {
        "layer": rome_layer(wildcards)
    }


def key_statistics_of(wildcards):
    """The key statistics of a model that ROME edits."""
    return [f"<results>/models/{wildcards.model}/key_statistics.safetensors"] if edits_by_rome(wildcards.model) else []


def counterfact_settings(wildcards):
    """The settings of the editors for a model."""
    settings = settings_of("counterfact")
    settings = {name: settings[name] for name in settings if name not in ("source", "known_by")}
    return settings | {"rome": rome_settings(wildcards)}


def weight_edit_settings(wildcards):
    """How facts are edited in the weights of a model."""
    settings = settings_of("weight_edits")
    return settings | {"rome": rome_settings(wildcards)} if settings["reference_editors"] else settings
