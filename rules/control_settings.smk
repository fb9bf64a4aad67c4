# The negative controls of this study: which, in which models, on which facts, and what they give.

from knatlas.study.controls import control_shards, control_tracing, controlled_models

KINDS_OF_CONTROL, CONTROLLED = config["controls"]["kinds"], controlled_models(config)
# those that change prompts; the third one changes the model
CHANGED_PROMPTS = [name for name in KINDS_OF_CONTROL if name != "untrained"]
# what is found; random neurons are a control of their own
FOUND = [name for name in SCORED if not name.startswith("random")]
HAS_CONTROLS = bool(CONTROLLED and FOUND)

# those of the localization paper's models
LOCALIZED_CONTROLS = [name for name in CONTROLLED if HAS_LOCALIZATION and name in LOCALIZED]

CONTROL_TABLES = ["controls", "control_layers", "control_manipulation"] if HAS_CONTROLS else []
CONTROL_TABLES += ["control_relations", "control_tracing"] if LOCALIZED_CONTROLS else []
TABLES += CONTROL_TABLES
CONTROL_FIGURES = expand("<results>/figures/controls.{ext}", ext=["pdf", "png", "csv"]) if HAS_CONTROLS else []


def control_shard_count(wildcards):
    """Shards into which the facts of a control are dealt out in a model."""
    return control_shards(config, shard_count(wildcards.model))


def control_prompts(wildcards):
    """The prompts that neurons are searched with under a control."""
    is_changed = wildcards.control in CHANGED_PROMPTS
    return (
        f"<results>/controls/{wildcards.control}/facts/prompts.parquet"
        if is_changed
        else "<results>/facts/prompts.parquet"
    )


def control_facts(wildcards):
    """The table of facts that names the subjects of a control's prompts."""
    return control_prompts(wildcards).replace("prompts.parquet", "facts.parquet")


def control_tracing_settings():
    """How hidden states are traced under a control."""
    return {name: value for name, value in control_tracing(config).items() if name != "source"}


def control_model_files(wildcards):
    """As `model_files`; under the control `untrained` the record of the untrained copy of that model."""
    first, *weights = model_files(wildcards)
    is_untrained = wildcards.control == "untrained"
    return [f"<results>/controls/untrained/models/{wildcards.model}/source.json" if is_untrained else first, *weights]


def control_shard_files(ending):
    """The attribution shards of a model under a control, or the tables of queries beside them."""

    def files(wildcards):
        return expand(
            "<results>/controls/{control}/attribution/{model}/{language}/{shard}.{ending}",
            control=wildcards.control,
            model=wildcards.model,
            ending=ending,
            language="all" if KEEPS_CANDIDATES else languages_of(config, wildcards.model),
            shard=range(control_shard_count(wildcards)),
        )

    return files


def control_results(*paths):
    """Results of all controlled models under each control, by the control and the last folder of their path."""
    return {
        f"{control}_{name}": expand(f"<results>/controls/{control}/{path}", model=CONTROLLED, selection=FOUND)
        for control in KINDS_OF_CONTROL
        for name, path in paths
    }


def localized_control_results(experiment):
    """What an experiment measured in the localization paper's models, by the control."""
    path = f"experiments/{{model}}/{experiment}.parquet"
    return {
        control: expand(f"<results>/controls/{control}/{path}", model=LOCALIZED_CONTROLS)
        for control in KINDS_OF_CONTROL
    }


def null_tables(name, figure=None):
    """The table of the controls that a figure draws beside its own; none where the study has no control for its models.

    figure: of a rule that draws that one alone.
    """

    def tables(wildcards):
        models, selections = FIGURES.get(figure or wildcards.figure, ([], []))
        is_controlled = HAS_CONTROLS and set(models) & set(CONTROLLED) and set(selections) & set(FOUND)
        return [f"<results>/tables/{name}.csv"] if is_controlled else []

    return tables


def null_relations(wildcards):
    """The table of relations under the controls that a figure draws; MATRICE's figure by relation has none."""
    return [] if wildcards.figure.startswith("matrice") else null_tables("control_relations")(wildcards)
