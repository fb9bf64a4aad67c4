"""What the landing page shows, in which order: figures and tables by paper and stage, and the caption of each."""

import re
from collections.abc import Mapping
from pathlib import Path

from knatlas.errors import AtlasError
from knatlas.reporting.methods_text import readable

# stage: figures and tables, by name, with the caption (report/NAME.rst) that explains them
SECTIONS = {
    "Facts and models": {"figures": {}, "tables": {"known": "known", "gates": "gates", "facts": "facts"}},
    "Neurons": {
        "figures": {},
        "tables": {
            "exactness": "exactness",
            "screening": "screening",
            "selection": "selection",
            "layer_distribution": "layers",
            "neuron_sets": "neuron_sets",
            "neuron_set_layers": "neuron_sets",
        },
    },
    "Manipulation and controls": {
        "figures": {"matrice_figure5": "manipulation", "matrice_figure5_relations": "relations"},
        "tables": {
            "headlines": "headlines",
            "control_separation": "separation",
            "manipulation": "manipulation",
            "manipulation_by_relation": "manipulation",
        },
    },
    "Causal fidelity": {
        "figures": {"fidelity": "fidelity"},
        "tables": {"fidelity": "fidelity", "suppression_curves": "fidelity"},
    },
    "Negative controls": {
        "figures": {"controls": "controls"},
        "tables": {
            "controls": "controls",
            "control_layers": "controls",
            "control_manipulation": "controls",
            "control_relations": "localization_controls",
            "control_tracing": "localization_controls",
        },
    },
    "Planted knowledge": {
        "figures": {"planted": "planted"},
        "tables": {"planted_localization": "planted", "planted_effects": "planted"},
    },
    "The AMIG paper": {
        "figures": {"amig_figure3": "layers", "amig_figure4": "layers", "amig_figure5": "layers"},
        "tables": {
            "amig_table1": "amig_table1",
            "amig_table2": "amig_table2",
            "amig_likn_sizes": "amig_likn_sizes",
            "amig_degenerate": "amig_degenerate",
            "amig_degenerate_layers": "amig_degenerate",
            "amig_table3": "amig_table3",
            "amig_coverage": "amig_coverage",
        },
    },
    "The MATRICE paper": {
        "figures": {
            "matrice_figure4": "layers",
            "matrice_figure6": "matrice_enhancement",
            "matrice_figure7": "matrice_cases",
            "matrice_sweeps": "matrice_sweeps",
        },
        "tables": {
            "matrice_table1": "matrice_table1",
            "matrice_table2": "matrice_table2",
            "matrice_table3": "matrice_table3",
            "matrice_table4": "matrice_table3",
            "matrice_table5": "matrice_table5",
            "matrice_injection_curves": "matrice_table5",
            "matrice_enhancement": "matrice_enhancement",
            "matrice_cases": "matrice_cases",
            "matrice_sweeps": "matrice_sweeps",
        },
    },
    "The localization paper": {
        "figures": {
            "localization_figure3": "relations",
            "localization_figure4": "relations",
            "localization_figure5": "layers",
            "localization_figure6": "localization_tracing",
            "localization_figure7": "localization_figure7",
            "localization_perturbation": "localization_perturbation",
        },
        "tables": {
            "localization_relations": "localization_relations",
            "localization_context_gain": "localization_context_gain",
            "localization_perturbation": "localization_perturbation",
            "localization_answer_case": "localization_answer_case",
            "localization_table2": "localization_table2",
            "localization_punctuation": "localization_table2",
            "localization_tracing": "localization_tracing",
            "localization_table3": "localization_table3",
        },
    },
}
OTHERS = "Other results"
# a value of the configuration in a caption, as in {{ snakemake.config["languages"] | join(", ") }}
LOOKUP = re.compile(r'{{ snakemake\.config((?:\["\w+"\])+)(?: \| join\("([^"]*)"\))? }}')


def sections(figures: list[str], tables: list[str]) -> list[tuple[str, dict[str, str], dict[str, str]]]:
    """Title, figures and tables (name: caption) of each section that has any of these; unknown ones come last."""
    found, left = [], {"figures": list(figures), "tables": list(tables)}
    for title, parts in SECTIONS.items():
        shown = {kind: {name: caption for name, caption in parts[kind].items() if name in left[kind]} for kind in left}
        left = {kind: [name for name in left[kind] if name not in shown[kind]] for kind in left}
        found.append((title, shown["figures"], shown["tables"]))
    found.append((OTHERS, dict.fromkeys(left["figures"], ""), dict.fromkeys(left["tables"], "")))
    return [section for section in found if section[1] or section[2]]


def caption_text(name: str, study: Mapping, folder: Path) -> str:
    """The caption of report/{name}.rst as plain text, with the study's values in it; empty for an empty name.

    Raises: AtlasError when a caption asks for a value in a way that the landing page does not know.
    """
    if not name:
        return ""
    path = folder / f"{name}.rst"
    text = LOOKUP.sub(lambda match: _value(match, study), path.read_text(encoding="utf-8"))
    if "{{" in text or "{%" in text:
        raise AtlasError(
            f'{path} holds a template that the landing page cannot fill in; use {{{{ snakemake.config["key"] }}}} '
            'or {{ snakemake.config["key"] | join(", ") }}'
        )
    return " ".join(text.replace("``", "").replace("**", "").split())


def _value(match: re.Match, study: Mapping) -> str:
    value: object = study
    for key in re.findall(r'"(\w+)"', match[1]):
        value = value[key]
    value = readable(value) if match[2] is None else value
    return str(value) if match[2] is None else match[2].join(map(str, value))
