# Knowledge Neuron Atlas: the table of contents.
#   snakemake --cores 2 all                  the embedded study of config.yaml
#   snakemake --profile slurm all            the three papers' study on a cluster
#   snakemake --cores 2 figures              one stage;  snakemake --cores 2 matrice: one paper
import os

from snakemake.utils import min_version

min_version("9.0")

# another workflow uses this one (docs/module.md): its configuration files and its targets are not this one's
IS_MODULE = not workflow.modifier.is_main_snakefile()

if not (IS_MODULE or workflow.overwrite_configfiles):

    configfile: "config.yaml"


include: "rules/common.smk"
include: "rules/resources.smk"
include: "rules/artefacts.smk"
include: "rules/localization_settings.smk"
include: "rules/exchange_settings.smk"
include: "rules/control_settings.smk"


pathvars:
    results=f"results/{config['study']}",
    logs=f"results/{config['study']}/logs",


include: "rules/data.smk"
include: "rules/models.smk"
include: "rules/attribution.smk"
include: "rules/selection.smk"
include: "rules/experiments.smk"
include: "rules/amig.smk"
include: "rules/matrice.smk"
include: "rules/matrice_results.smk"
include: "rules/localization.smk"
include: "rules/localization_results.smk"
include: "rules/exchange.smk"
include: "rules/fidelity.smk"
include: "rules/planted.smk"
include: "rules/controls.smk"
include: "rules/localization_controls.smk"
include: "rules/statistics.smk"
include: "rules/tables.smk"
include: "rules/figures.smk"
include: "rules/plan.smk"


report: "report/workflow.rst"


# Snakemake itself says nothing that helps where it can't write.
onstart:
    require_writable(f"results/{config['study']}")


rule all:
    default_target: True
    input:
        rules.data.input,
        rules.models.input,
        rules.attribution.input,
        rules.selection.input,
        rules.experiments.input,
        rules.exchange.input,
        rules.planted.input,
        rules.controls.input,
        rules.tables.input,
        rules.figures.input,
        "<results>/tables/badges.csv",
        "<results>/tables/claims.csv",


include: "rules/report.smk"


# The papers, each with its tables and figures.


rule amig:
    input:
        paper_results("amig"),


rule matrice:
    input:
        paper_results("matrice"),


rule localization:
    input:
        paper_results("localization"),


# last, when all rules are known
include: "rules/targets.smk"
