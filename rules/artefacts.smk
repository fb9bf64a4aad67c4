# Which tables and figures this study has, by the papers' names, and what each of them shows.
from knatlas.statistics.printed_cells import PAPERS, compared_tables
from knatlas.study.fidelity import fidelity_languages

# tables that hold what a paper prints
COMPARED = compared_tables()

# what the AMIG paper's experiments need: its neurons, and for editing across languages a second language
HAS_AMIG = "amig" in SELECTIONS
SEARCHED = ["dkn"] if HAS_AMIG else []
AMIG_TABLES = ["amig_table1", "amig_table3", "amig_degenerate", "amig_degenerate_layers", "amig_coverage"]
AMIG_TABLES += ["amig_table2", "amig_likn_sizes"] if MULTILINGUAL else []

# what the MATRICE paper's experiments need: its neurons in a model of several languages
HAS_MATRICE = "matrice" in SELECTIONS and bool(MULTILINGUAL)
MATRICE_TABLES = [f"matrice_table{number}" for number in range(1, 6)]
MATRICE_TABLES += ["matrice_enhancement", "matrice_cases", "matrice_injection_curves", "matrice_sweeps"]
EDITED, ENHANCED, INJECTED = (
    [name for name in config["experiments"][part]["selections"] if name in SELECTIONS]
    for part in ("weight_edits", "enhancement", "injection")
)

# what the localization paper's experiments need: models of English, and their refined neurons
LOCALIZED = localized_models(config)
HAS_LOCALIZATION = {"bkn", "refined"} <= set(SELECTIONS) and bool(LOCALIZED)
RELATED = [name for name in ("refined", "random", "random_layer_matched") if name in SELECTIONS]
LOCALIZATION_TABLES = ["localization_table2", "localization_table3"]
LOCALIZATION_TABLES += ["localization_" + name for name in ("relations", "context_gain", "perturbation", "answer_case")]
LOCALIZATION_TABLES += ["localization_punctuation", "localization_tracing"]

# models whose neurons are ablated one at a time, each with the languages in which they are
FIDELITY = {name: fidelity_languages(config, name, languages_of(config, name)) for name in MODELS}
FIDELITY = {name: languages for name, languages in FIDELITY.items() if languages}

# Figures by name: the models and the selections they show.
FIGURES = {
    "amig_figure3": (MULTILINGUAL, ["amig", "likn"]),
    "amig_figure4": (MULTILINGUAL, ["dkn"]),
    "amig_figure5": (MONOLINGUAL, ["dkn"]),
    "matrice_figure4": (MULTILINGUAL, ["matrice"]),
    "matrice_figure5": (MULTILINGUAL, ["matrice", "likn", "random"]),
    "matrice_figure5_relations": (MULTILINGUAL, ["matrice", "likn", "random"]),
    "matrice_figure6": (MULTILINGUAL, ["matrice"]),
    "matrice_figure7": (MULTILINGUAL, ["matrice"]),
    "matrice_sweeps": (MULTILINGUAL, ["matrice"]),
    "localization_figure3": (LOCALIZED, ["bkn", "refined"]),
    "localization_figure4": (LOCALIZED, ["bkn", "refined"]),
    "localization_figure5": (LOCALIZED, ["bkn", "refined"]),
    "localization_figure6": (LOCALIZED, ["bkn", "refined"]),
    "localization_figure7": (LOCALIZED, ["bkn", "refined"]),
    "localization_perturbation": (LOCALIZED, ["bkn", "refined"]),
    "fidelity": (list(FIDELITY), []),
}
# those for which this study has models and selections
FIGURES = {name: shown for name, shown in FIGURES.items() if shown[0] and set(shown[1]) <= {*SELECTIONS, *SEARCHED}}
TABLES = [
    "significance",
    "stability",
    "shared_names",
    "exactness",
    "facts",
    "known",
    "gates",
    "manipulation",
    "manipulation_by_relation",
    "control_separation",
    "layer_distribution",
    "selection",
    "headlines",
]
TABLES += AMIG_TABLES if HAS_AMIG else []
TABLES += MATRICE_TABLES if HAS_MATRICE else []
TABLES += LOCALIZATION_TABLES if HAS_LOCALIZATION else []
TABLES += ["fidelity", "suppression_curves"] if FIDELITY else []
# only where something is checked
TABLES += ["screening"] if config["attribution"]["screening"]["reference"] else []


def chosen(selections):
    """Those selections that this study has."""
    return [name for name in selections if name in SELECTIONS]


RANDOM_CONTROLS = ["random", "random_layer_matched"]
FOUND_AND_EDITED = [name for name in EDITED if name not in RANDOM_CONTROLS]
# what of the figures and tables is tested by permutation: the measurements, models, selections and languages of each
TESTED = {
    "matrice_figure5": {"from": "manipulation", "models": MULTILINGUAL, "selections": chosen(["matrice", "likn"])},
    "matrice_figure6": {
        "from": "enhancement",
        "models": MULTILINGUAL,
        "selections": chosen(["matrice"]) if "matrice" in ENHANCED else [],
    },
    "amig_table1": {"from": "manipulation", "models": list(MODELS), "selections": chosen(["bkn", "amig"])},
    **{
        table: {"from": "weight_edits", "models": MULTILINGUAL, "selections": FOUND_AND_EDITED}
        for table, operation in (("matrice_table3", "erase"), ("matrice_table4", "update"))
        if HAS_MATRICE and operation in config["experiments"]["weight_edits"]["operations"]
    },
    **{
        figure: {"from": "manipulation", "models": LOCALIZED, "selections": chosen(["refined"]), "languages": [ENGLISH]}
        for figure in ("localization_figure3", "localization_figure4")
    },
}
TESTED = {name: shown for name, shown in TESTED.items() if shown["models"] and shown["selections"]}
# tables whose rows are tested against each other, with the experiment of each
TESTED_TABLES = {"matrice_table5": "injection", "amig_table2": "crosslingual", "localization_table3": "counterfact"}
TESTED_TABLES = {name: experiment for name, experiment in TESTED_TABLES.items() if name in TABLES}

# planted knowledge: its tables and its figure, where the study plants any
PLANTED = expand("<results>/figures/planted.{ext}", ext=["pdf", "png", "csv"])
PLANTED += ["<results>/tables/planted_localization.csv", "<results>/tables/planted_effects.csv"]
PLANTED = PLANTED if config["planted"]["families"] else []


def figures_of(paper):
    """Names of the figures of a paper that this study can draw."""
    return [name for name in FIGURES if name.startswith(paper)]


def paper_results(paper):
    """Figures (pdf, png, csv) of one paper, with the tables on which its numbers stand."""
    figures = expand("<results>/figures/{figure}.{ext}", figure=figures_of(paper), ext=["pdf", "png", "csv"])
    tables = [table for table in TABLES if table.startswith(paper)]
    return figures + expand(
        "<results>/tables/{table}.csv", table=["known", "manipulation", "layer_distribution", *tables]
    )


def settings_of(experiment):
    """The settings of an experiment, but for the selections that it takes."""
    return {key: value for key, value in config["experiments"][experiment].items() if key != "selections"}


def enhancement_settings(wildcards):
    """How answers are enhanced in those low-resource languages that a model is studied in."""
    settings, known = settings_of("enhancement"), languages_of(config, wildcards.model)
    factor = config["experiments"]["enhance_factor"]
    own = [language for language in settings["languages"] if language in known]
    return {**settings, "languages": own, "enhance_factor": factor}


def layer_table(wildcards):
    """The table of layers that a figure draws."""
    name = "amig_degenerate_layers" if FIGURES[wildcards.figure][1] == ["dkn"] else "layer_distribution"
    return f"<results>/tables/{name}.csv"


def relation_table(wildcards):
    """The table of relations that a figure draws."""
    is_matrice = wildcards.figure.startswith("matrice")
    return f"<results>/tables/{'manipulation_by_relation' if is_matrice else 'localization_relations'}.csv"


def figure_models(wildcards):
    """Models that a figure shows."""
    return FIGURES[wildcards.figure][0]


def figure_selections(wildcards):
    """Selections that a figure shows."""
    return FIGURES[wildcards.figure][1]
