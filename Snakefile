# Knowledge Neuron Atlas: the table of contents.
#   snakemake --cores 2 all                  the embedded study of config.yaml
#   snakemake --profile slurm all            the three papers' study on a cluster
#   snakemake --cores 2 figures              one stage;  snakemake --cores 2 matrice: one paper
import os

from snakemake.utils import min_version

min_version("9.0")

if not workflow.overwrite_configfiles:

    configfile: "config.yaml"


include: "rules/common.smk"
include: "rules/resources.smk"
include: "rules/artefacts.smk"
include: "rules/localization_settings.smk"
include: "rules/exchange_settings.smk"


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
include: "rules/planted.smk"
include: "rules/statistics.smk"
include: "rules/tables.smk"
include: "rules/figures.smk"
include: "rules/plan.smk"


report: "report/workflow.rst"


# Snakemake itself says nothing that helps where it can't write.
onstart:
    require_writable(f"results/{config['study']}")


localrules:
    all,
    data,
    models,
    attribution,
    selection,
    experiments,
    exchange,
    planted,
    tables,
    figures,
    amig,
    matrice,
    localization,
    report,


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
