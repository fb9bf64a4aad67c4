# The localization paper's tables and figures, from the measurements of localization.smk and of manipulate_activations. Figure 5 is in figures.smk.


rule summarise_relations:
    input:
        measurements=expand("<results>/experiments/{model}/manipulation.parquet", model=LOCALIZED),
    output:
        table=report(
            "<results>/tables/localization_relations.csv",
            caption="../report/localization_relations.rst",
            category="Localization",
            labels={
                "result": "Figures 3 and 4 as a table",
                "model": "each",
                "selection": "refined and random",
                "language": "en",
            },
        ),
    log:
        "<logs>/summarise_relations.log",
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=megabytes(8000),
        runtime=minutes(120),
    params:
        languages=[ENGLISH],
        selections=RELATED,
        seed=lookup(within=config, dpath="seed"),
        resamples=lookup(within=config, dpath="statistics/resamples"),
        printed=catalog_of("paper_results/localization.yaml"),
        code=code_of("summarise_relations.py"),
    message:
        "Summarising suppression and enhancement by relation"
    script:
        "../scripts/summarise_relations.py"


rule plot_relations:
    input:
        table=relation_table,
        controls=null_relations,
    output:
        pdf="<results>/figures/{figure}.pdf",
        png=report(
            "<results>/figures/{figure}.png",
            caption="../report/relations.rst",
            category="Manipulation",
            labels={"result": "{figure}", "model": "each", "selection": "each", "language": "en or all"},
        ),
        csv="<results>/figures/{figure}.csv",
    log:
        "<logs>/plot_relations/{figure}.log",
    wildcard_constraints:
        figure="localization_figure3|localization_figure4|matrice_figure5_relations",
    localrule: True
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=megabytes(2000),
        runtime=minutes(10),
    params:
        figure=lambda wildcards: wildcards.figure,
        models=figure_models,
        catalog=catalog_of("relations.yaml", rows=RELATION_ROWS),
        code=code_of("plot_relations.py"),
    message:
        "Drawing {wildcards.figure}: changes by relation"
    script:
        "../scripts/plot_relations.py"


rule summarise_context_gain:
    input:
        measurements=expand("<results>/experiments/{model}/context_gain.parquet", model=LOCALIZED),
    output:
        table=report(
            "<results>/tables/localization_context_gain.csv",
            caption="../report/localization_context_gain.rst",
            category="Localization",
            labels={
                "result": "What examples before a prompt add",
                "model": "each",
                "selection": "-",
                "language": "en",
            },
        ),
    log:
        "<logs>/summarise_context_gain.log",
    localrule: True
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=megabytes(4000),
        runtime=minutes(30),
    params:
        seed=lookup(within=config, dpath="seed"),
        resamples=lookup(within=config, dpath="statistics/resamples"),
        printed=catalog_of("paper_results/localization.yaml"),
        code=code_of("summarise_context_gain.py"),
    message:
        "Summarising what examples before a prompt add"
    script:
        "../scripts/summarise_context_gain.py"


rule summarise_perturbation:
    input:
        measurements=expand("<results>/experiments/{model}/perturbation.parquet", model=LOCALIZED),
    output:
        table=report(
            "<results>/tables/localization_perturbation.csv",
            caption="../report/localization_perturbation.rst",
            category="Localization",
            labels={"result": "Noise on word embeddings", "model": "each", "selection": "-", "language": "en"},
        ),
    log:
        "<logs>/summarise_perturbation.log",
    localrule: True
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=megabytes(4000),
        runtime=minutes(30),
    params:
        seed=lookup(within=config, dpath="seed"),
        resamples=lookup(within=config, dpath="statistics/resamples"),
        printed=catalog_of("paper_results/localization.yaml"),
        code=code_of("summarise_perturbation.py"),
    message:
        "Summarising noise on word embeddings"
    script:
        "../scripts/summarise_perturbation.py"


rule plot_perturbation:
    input:
        table="<results>/tables/localization_perturbation.csv",
    output:
        pdf="<results>/figures/localization_perturbation.pdf",
        png=report(
            "<results>/figures/localization_perturbation.png",
            caption="../report/localization_perturbation.rst",
            category="Localization",
            labels={"result": "localization_perturbation", "model": "each", "selection": "-", "language": "en"},
        ),
        csv="<results>/figures/localization_perturbation.csv",
    log:
        "<logs>/plot_perturbation.log",
    localrule: True
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=megabytes(2000),
        runtime=minutes(10),
    params:
        models=LOCALIZED,
        code=code_of("plot_perturbation.py"),
    message:
        "Drawing the change of P under noise on word embeddings"
    script:
        "../scripts/plot_perturbation.py"


rule summarise_answer_case:
    input:
        measurements=expand("<results>/experiments/{model}/answer_case.parquet", model=LOCALIZED),
    output:
        table=report(
            "<results>/tables/localization_answer_case.csv",
            caption="../report/localization_answer_case.rst",
            category="Localization",
            labels={"result": "Answers in small letters", "model": "each", "selection": "refined", "language": "en"},
        ),
    log:
        "<logs>/summarise_answer_case.log",
    localrule: True
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=megabytes(4000),
        runtime=minutes(30),
    params:
        seed=lookup(within=config, dpath="seed"),
        resamples=lookup(within=config, dpath="statistics/resamples"),
        code=code_of("summarise_answer_case.py"),
    message:
        "Summarising answers as written and in small letters"
    script:
        "../scripts/summarise_answer_case.py"


rule summarise_punctuation:
    input:
        neurons=expand("<results>/experiments/{model}/punctuation.parquet", model=LOCALIZED),
        answers=expand("<results>/experiments/{model}/punctuation_answers.parquet", model=LOCALIZED),
    output:
        table=report(
            "<results>/tables/localization_table2.csv",
            caption="../report/localization_table2.rst",
            category="Localization",
            labels={
                "result": "Table 2: neurons of punctuation marks",
                "model": "each",
                "selection": "-",
                "language": "en",
            },
        ),
        summary=report(
            "<results>/tables/localization_punctuation.csv",
            caption="../report/localization_table2.rst",
            category="Localization",
            labels={
                "result": "Punctuation marks: answers and counts",
                "model": "each",
                "selection": "-",
                "language": "en",
            },
        ),
    log:
        "<logs>/summarise_punctuation.log",
    localrule: True
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=megabytes(4000),
        runtime=minutes(30),
    params:
        settings=punctuation_settings("levels", "control_level"),
        seed=lookup(within=config, dpath="seed"),
        resamples=lookup(within=config, dpath="statistics/resamples"),
        printed=catalog_of("paper_results/localization.yaml"),
        code=code_of("summarise_punctuation.py"),
    message:
        "Counting the neurons of punctuation marks"
    script:
        "../scripts/summarise_punctuation.py"


rule summarise_tracing:
    input:
        measurements=expand("<results>/experiments/{model}/causal_tracing.parquet", model=LOCALIZED),
    output:
        table=report(
            "<results>/tables/localization_tracing.csv",
            caption="../report/localization_tracing.rst",
            category="Localization",
            labels={"result": "Causal tracing by class of token", "model": "each", "selection": "-", "language": "en"},
        ),
    log:
        "<logs>/summarise_tracing.log",
    localrule: True
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=megabytes(4000),
        runtime=minutes(30),
    params:
        min_drop=lookup(within=config, dpath="experiments/causal_tracing/min_drop"),
        seed=lookup(within=config, dpath="seed"),
        resamples=lookup(within=config, dpath="statistics/resamples"),
        code=code_of("summarise_tracing.py"),
    message:
        "Averaging causal traces by class of token"
    script:
        "../scripts/summarise_tracing.py"


rule plot_tracing:
    input:
        table="<results>/tables/localization_tracing.csv",
        controls=null_tables("control_tracing", "localization_figure6"),
    output:
        pdf="<results>/figures/localization_figure6.pdf",
        png=report(
            "<results>/figures/localization_figure6.png",
            caption="../report/localization_tracing.rst",
            category="Localization",
            labels={"result": "localization_figure6", "model": "each", "selection": "-", "language": "en"},
        ),
        csv="<results>/figures/localization_figure6.csv",
    log:
        "<logs>/plot_tracing.log",
    localrule: True
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=megabytes(2000),
        runtime=minutes(10),
    params:
        models=LOCALIZED,
        code=code_of("plot_tracing.py"),
    message:
        "Drawing localization_figure6: causal traces by class of token"
    script:
        "../scripts/plot_tracing.py"


rule plot_trace_example:
    input:
        measurements=expand("<results>/experiments/{model}/causal_tracing.parquet", model=LOCALIZED),
    output:
        pdf="<results>/figures/localization_figure7.pdf",
        png=report(
            "<results>/figures/localization_figure7.png",
            caption="../report/localization_figure7.rst",
            category="Localization",
            labels={"result": "localization_figure7", "model": "each", "selection": "-", "language": "en"},
        ),
        csv="<results>/figures/localization_figure7.csv",
    log:
        "<logs>/plot_trace_example.log",
    localrule: True
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=megabytes(2000),
        runtime=minutes(10),
    params:
        min_drop=lookup(within=config, dpath="experiments/causal_tracing/min_drop"),
        code=code_of("plot_trace_example.py"),
    message:
        "Drawing localization_figure7: causal traces of single facts"
    script:
        "../scripts/plot_trace_example.py"


rule summarise_counterfact:
    input:
        measurements=expand("<results>/experiments/{model}/counterfact.parquet", model=LOCALIZED),
    output:
        table3=report(
            "<results>/tables/localization_table3.csv",
            caption="../report/localization_table3.rst",
            category="Localization",
            labels={"result": "Table 3: editors on CounterFact", "model": "each", "selection": "-", "language": "en"},
        ),
    log:
        "<logs>/summarise_counterfact.log",
    localrule: True
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=megabytes(4000),
        runtime=minutes(30),
    params:
        seed=lookup(within=config, dpath="seed"),
        resamples=lookup(within=config, dpath="statistics/resamples"),
        printed=catalog_of("paper_results/localization.yaml"),
        code=code_of("summarise_counterfact.py"),
    message:
        "Scoring edits of CounterFact's facts"
    script:
        "../scripts/summarise_counterfact.py"
