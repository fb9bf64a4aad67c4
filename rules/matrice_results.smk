# The MATRICE paper's tables and figures, from the measurements of matrice.smk and experiments.smk; Figures 4 and 5 are in figures.smk.


rule tabulate_composition:
    input:
        facts="<results>/facts/facts.parquet",
        prompts="<results>/facts/prompts.parquet",
        cleaning="<results>/facts/cleaning.csv",
        known=expand("<results>/known/{model}.parquet", model=MODELS),
    output:
        table=report(
            "<results>/tables/matrice_table1.csv",
            caption="../report/matrice_table1.rst",
            category="MATRICE",
            labels={"result": "Table I: the facts and queries", "model": "-", "selection": "-", "language": "each"},
        ),
    log:
        "<logs>/tabulate_composition.log",
    localrule: True
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=megabytes(4000),
        runtime=minutes(10),
    params:
        languages=config["languages"],
        models=list(MODELS),
        printed=catalog_of("paper_results/matrice.yaml", "languages.yaml", rows=LANGUAGE_ROWS),
        code=code_of("tabulate_composition.py"),
    message:
        "Tabulating facts and queries by language"
    script:
        "../scripts/tabulate_composition.py"


rule summarise_ablation:
    input:
        measurements=expand("<results>/experiments/{model}/manipulation.parquet", model=MULTILINGUAL),
    output:
        table=report(
            "<results>/tables/matrice_table2.csv",
            caption="../report/matrice_table2.rst",
            category="MATRICE",
            labels={
                "result": "Table II: ablation",
                "model": "multilingual",
                "selection": "matrice and variants",
                "language": "each",
            },
        ),
    log:
        "<logs>/summarise_ablation.log",
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=megabytes(8000),
        runtime=minutes(60),
    params:
        printed=catalog_of("paper_results/matrice.yaml"),
        resamples=lookup(within=config, dpath="statistics/resamples"),
        seed=lookup(within=config, dpath="seed"),
        code=code_of("summarise_ablation.py"),
    message:
        "Tabulating the ablation of MATRICE"
    script:
        "../scripts/summarise_ablation.py"


rule summarise_weight_edits:
    input:
        measurements=expand("<results>/experiments/{model}/weight_edits.parquet", model=MULTILINGUAL),
    output:
        table3=report(
            "<results>/tables/matrice_table3.csv",
            caption="../report/matrice_table3.rst",
            category="MATRICE",
            labels={"result": "Table III: erasure", "model": "multilingual", "selection": "each", "language": "each"},
        ),
        table4=report(
            "<results>/tables/matrice_table4.csv",
            caption="../report/matrice_table3.rst",
            category="MATRICE",
            labels={"result": "Table IV: update", "model": "multilingual", "selection": "each", "language": "each"},
        ),
    log:
        "<logs>/summarise_weight_edits.log",
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=megabytes(8000),
        runtime=minutes(60),
    params:
        settings=dict(control="random"),
        printed=catalog_of("paper_results/matrice.yaml"),
        resamples=lookup(within=config, dpath="statistics/resamples"),
        seed=lookup(within=config, dpath="seed"),
        code=code_of("summarise_weight_edits.py"),
    message:
        "Tabulating erased and updated facts"
    script:
        "../scripts/summarise_weight_edits.py"


rule summarise_injection:
    input:
        measurements=expand("<results>/experiments/{model}/injection.parquet", model=MULTILINGUAL),
        curves=expand("<results>/experiments/{model}/injection_curves.parquet", model=MULTILINGUAL),
    output:
        table=report(
            "<results>/tables/matrice_table5.csv",
            caption="../report/matrice_table5.rst",
            category="MATRICE",
            labels={"result": "Table V: injection", "model": "multilingual", "selection": "each", "language": "each"},
        ),
        curves_table=report(
            "<results>/tables/matrice_injection_curves.csv",
            caption="../report/matrice_table5.rst",
            category="MATRICE",
            labels={
                "result": "training curves of the injection",
                "model": "multilingual",
                "selection": "each",
                "language": "each",
            },
        ),
    log:
        "<logs>/summarise_injection.log",
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=megabytes(8000),
        runtime=minutes(60),
    params:
        printed=catalog_of("paper_results/matrice.yaml"),
        resamples=lookup(within=config, dpath="statistics/resamples"),
        seed=lookup(within=config, dpath="seed"),
        code=code_of("summarise_injection.py"),
    message:
        "Tabulating injected facts"
    script:
        "../scripts/summarise_injection.py"


rule summarise_enhancement:
    input:
        measurements=expand("<results>/experiments/{model}/enhancement.parquet", model=MULTILINGUAL),
    output:
        table=report(
            "<results>/tables/matrice_enhancement.csv",
            caption="../report/matrice_enhancement.rst",
            category="MATRICE",
            labels={
                "result": "enhancement in low-resource languages",
                "model": "multilingual",
                "selection": "each",
                "language": "low-resource",
            },
        ),
    log:
        "<logs>/summarise_enhancement.log",
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=megabytes(8000),
        runtime=minutes(60),
    params:
        resamples=lookup(within=config, dpath="statistics/resamples"),
        seed=lookup(within=config, dpath="seed"),
        code=code_of("summarise_enhancement.py"),
    message:
        "Summarising enhanced answers"
    script:
        "../scripts/summarise_enhancement.py"


rule summarise_sweeps:
    input:
        measurements=expand("<results>/experiments/{model}/sweeps.parquet", model=MULTILINGUAL),
    output:
        table=report(
            "<results>/tables/matrice_sweeps.csv",
            caption="../report/matrice_sweeps.rst",
            category="MATRICE",
            labels={
                "result": "sweeps over tau, alpha, beta",
                "model": "multilingual",
                "selection": "matrice",
                "language": "all",
            },
        ),
    log:
        "<logs>/summarise_sweeps.log",
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=megabytes(8000),
        runtime=minutes(60),
    params:
        resamples=lookup(within=config, dpath="statistics/resamples"),
        seed=lookup(within=config, dpath="seed"),
        code=code_of("summarise_sweeps.py"),
    message:
        "Summarising sweeps"
    script:
        "../scripts/summarise_sweeps.py"


rule plot_enhancement:
    input:
        table="<results>/tables/matrice_enhancement.csv",
    output:
        pdf="<results>/figures/matrice_figure6.pdf",
        png=report(
            "<results>/figures/matrice_figure6.png",
            caption="../report/matrice_enhancement.rst",
            category="MATRICE",
            labels={"result": "matrice_figure6", "model": "each", "selection": "each", "language": "low-resource"},
        ),
        csv="<results>/figures/matrice_figure6.csv",
    log:
        "<logs>/plot_enhancement.log",
    localrule: True
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=megabytes(2000),
        runtime=minutes(10),
    params:
        models=MULTILINGUAL,
        code=code_of("plot_enhancement.py"),
    message:
        "Drawing matrice_figure6: accuracy by enhancement"
    script:
        "../scripts/plot_enhancement.py"


rule plot_cases:
    input:
        cases=expand("<results>/experiments/{model}/cases.parquet", model=MULTILINGUAL),
    output:
        pdf="<results>/figures/matrice_figure7.pdf",
        png=report(
            "<results>/figures/matrice_figure7.png",
            caption="../report/matrice_cases.rst",
            category="MATRICE",
            labels={"result": "matrice_figure7", "model": "each", "selection": "matrice", "language": "each"},
        ),
        csv="<results>/figures/matrice_figure7.csv",
        table="<results>/tables/matrice_cases.csv",
    log:
        "<logs>/plot_cases.log",
    localrule: True
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=megabytes(2000),
        runtime=minutes(10),
    params:
        code=code_of("plot_cases.py"),
    message:
        "Drawing matrice_figure7: cases chosen by rule"
    script:
        "../scripts/plot_cases.py"


rule plot_sweeps:
    input:
        table="<results>/tables/matrice_sweeps.csv",
    output:
        pdf="<results>/figures/matrice_sweeps.pdf",
        png=report(
            "<results>/figures/matrice_sweeps.png",
            caption="../report/matrice_sweeps.rst",
            category="MATRICE",
            labels={
                "result": "sweeps over tau, alpha, beta",
                "model": "each",
                "selection": "matrice",
                "language": "all",
            },
        ),
        csv="<results>/figures/matrice_sweeps.csv",
    log:
        "<logs>/plot_sweeps.log",
    localrule: True
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=megabytes(2000),
        runtime=minutes(10),
    params:
        models=MULTILINGUAL,
        code=code_of("plot_sweeps.py"),
    message:
        "Drawing the sweeps"
    script:
        "../scripts/plot_sweeps.py"
