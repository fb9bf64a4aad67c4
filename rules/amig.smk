# The AMIG paper: success rate (Table 1), editing across languages (Table 2), degenerate neurons (Figures 4 and 5) and
# fact-checking with them (Table 3). Its Figure 3 is one of the layer figures of figures.smk.


rule edit_across_languages:
    input:
        model=model_files,
        prompts="<results>/facts/prompts.parquet",
        neurons="<results>/neurons/{model}/amig.parquet",
    output:
        measurements="<results>/experiments/{model}/crosslingual.parquet",
    log:
        "<logs>/edit_across_languages/{model}.log",
    conda:
        "../envs/models.yaml"
    threads: config["compute"]["threads"]
    resources:
        gpu=config["compute"]["gpus"],
        mem_mb=planned_mb("crosslingual"),
        runtime=planned_minutes("crosslingual"),
        device=DEVICE,
        batch_rows=batch_rows,
    params:
        suppress_factor=lookup(within=config, dpath="experiments/suppress_factor"),
        enhance_factor=lookup(within=config, dpath="experiments/enhance_factor"),
        positions=lookup(within=config, dpath="experiments/intervene_positions"),
        site=lookup(within=config, dpath="experiments/intervene_site"),
        pairs=language_pairs,
        overlap=lookup(within=config, dpath="experiments/crosslingual/overlap"),
        languages=model_languages,
        dtype=lookup(within=config, dpath="dtype"),
        seed=lookup(within=config, dpath="seed"),
        code=code_of("edit_across_languages.py"),
    message:
        "Editing facts of {wildcards.model} across languages"
    script:
        "../scripts/edit_across_languages.py"


rule search_degenerate:
    input:
        model=model_files,
        prompts="<results>/facts/prompts.parquet",
        neurons="<results>/neurons/{model}/amig.parquet",
    output:
        pairs="<results>/experiments/{model}/degenerate_pairs.parquet",
        clusters="<results>/experiments/{model}/degenerate_clusters.parquet",
        facts="<results>/experiments/{model}/degenerate_facts.parquet",
        neurons="<results>/neurons/{model}/dkn.parquet",
    log:
        "<logs>/search_degenerate/{model}.log",
    conda:
        "../envs/models.yaml"
    threads: config["compute"]["threads"]
    resources:
        gpu=config["compute"]["gpus"],
        mem_mb=planned_mb("degenerate"),
        runtime=planned_minutes("degenerate"),
        device=DEVICE,
        batch_rows=batch_rows,
    params:
        suppress_factor=lookup(within=config, dpath="experiments/suppress_factor"),
        positions=lookup(within=config, dpath="experiments/intervene_positions"),
        site=lookup(within=config, dpath="experiments/intervene_site"),
        thresholds=lookup(within=config, dpath="experiments/degenerate"),
        languages=model_languages,
        dtype=lookup(within=config, dpath="dtype"),
        seed=lookup(within=config, dpath="seed"),
        code=code_of("search_degenerate.py"),
    message:
        "Searching degenerate neurons of {wildcards.model}"
    script:
        "../scripts/search_degenerate.py"


rule score_candidates:
    input:
        model=model_files,
        prompts="<results>/facts/prompts.parquet",
        clusters="<results>/experiments/{model}/degenerate_clusters.parquet",
        facts="<results>/experiments/{model}/degenerate_facts.parquet",
    output:
        candidates="<results>/experiments/{model}/fact_checking.parquet",
        scores="<results>/experiments/{model}/fact_checking_scores.parquet",
    log:
        "<logs>/score_candidates/{model}.log",
    conda:
        "../envs/models.yaml"
    threads: config["compute"]["threads"]
    resources:
        gpu=config["compute"]["gpus"],
        mem_mb=planned_mb("fact_checking"),
        runtime=planned_minutes("fact_checking"),
        device=DEVICE,
        batch_rows=batch_rows,
    params:
        attribution=attribution_settings(config),
        wrong_objects=lookup(within=config, dpath="experiments/fact_checking/wrong_objects"),
        languages=model_languages,
        dtype=lookup(within=config, dpath="dtype"),
        seed=lookup(within=config, dpath="seed"),
        code=code_of("score_candidates.py"),
    message:
        "Scoring right and wrong objects of {wildcards.model} at its degenerate neurons"
    script:
        "../scripts/score_candidates.py"


rule summarise_success_rate:
    input:
        measurements=expand("<results>/experiments/{model}/manipulation.parquet", model=MODELS),
    output:
        table=report(
            "<results>/tables/amig_table1.csv",
            caption="../report/amig_table1.rst",
            category="AMIG",
            labels={
                "result": "Table 1: success rate",
                "model": "all",
                "selection": "bkn, amig, random",
                "language": "each",
            },
        ),
    log:
        "<logs>/summarise_success_rate.log",
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=megabytes(8000),
        runtime=minutes(60),
    params:
        selections=[name for name in ["bkn", "amig", "random_layer_matched"] if name in SELECTIONS],
        settings=lookup(within=config, dpath="experiments/success_rate"),
        printed=catalog_of("paper_results/amig.yaml"),
        resamples=lookup(within=config, dpath="statistics/resamples"),
        seed=lookup(within=config, dpath="seed"),
        code=code_of("summarise_success_rate.py"),
    message:
        "Tabulating AMIG's Table 1"
    script:
        "../scripts/summarise_success_rate.py"


rule summarise_crosslingual:
    input:
        measurements=expand("<results>/experiments/{model}/crosslingual.parquet", model=MULTILINGUAL),
    output:
        table=report(
            "<results>/tables/amig_table2.csv",
            caption="../report/amig_table2.rst",
            category="AMIG",
            labels={
                "result": "Table 2: editing across languages",
                "model": "multilingual",
                "selection": "likn, mono, seq",
                "language": "pairs",
            },
        ),
        sizes=report(
            "<results>/tables/amig_likn_sizes.csv",
            caption="../report/amig_likn_sizes.rst",
            category="AMIG",
            labels={
                "result": "sizes of language-independent sets",
                "model": "multilingual",
                "selection": "likn",
                "language": "pairs",
            },
        ),
    log:
        "<logs>/summarise_crosslingual.log",
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=megabytes(8000),
        runtime=minutes(60),
    params:
        success_rate=lookup(within=config, dpath="experiments/success_rate"),
        facts=lookup(within=config, dpath="experiments/crosslingual/facts"),
        printed=catalog_of("paper_results/amig.yaml"),
        resamples=lookup(within=config, dpath="statistics/resamples"),
        seed=lookup(within=config, dpath="seed"),
        code=code_of("summarise_crosslingual.py"),
    message:
        "Tabulating AMIG's Table 2"
    script:
        "../scripts/summarise_crosslingual.py"


rule summarise_degenerate:
    input:
        pairs=expand("<results>/experiments/{model}/degenerate_pairs.parquet", model=MODELS),
        clusters=expand("<results>/experiments/{model}/degenerate_clusters.parquet", model=MODELS),
        facts=expand("<results>/experiments/{model}/degenerate_facts.parquet", model=MODELS),
        neurons=expand("<results>/neurons/{model}/dkn.parquet", model=MODELS),
    output:
        table=report(
            "<results>/tables/amig_degenerate.csv",
            caption="../report/amig_degenerate.rst",
            category="AMIG",
            labels={"result": "degenerate neurons", "model": "all", "selection": "dkn", "language": "each"},
        ),
        layers=report(
            "<results>/tables/amig_degenerate_layers.csv",
            caption="../report/amig_degenerate.rst",
            category="AMIG",
            labels={"result": "degenerate neurons by layer", "model": "all", "selection": "dkn", "language": "each"},
        ),
    log:
        "<logs>/summarise_degenerate.log",
    localrule: True
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=megabytes(4000),
        runtime=minutes(60),
    params:
        resamples=lookup(within=config, dpath="statistics/resamples"),
        seed=lookup(within=config, dpath="seed"),
        code=code_of("summarise_degenerate.py"),
    message:
        "Summarising degenerate neurons"
    script:
        "../scripts/summarise_degenerate.py"


rule summarise_fact_checking:
    input:
        candidates=expand("<results>/experiments/{model}/fact_checking.parquet", model=MODELS),
        scores=expand("<results>/experiments/{model}/fact_checking_scores.parquet", model=MODELS),
        clusters=expand("<results>/experiments/{model}/degenerate_clusters.parquet", model=MODELS),
        facts=expand("<results>/experiments/{model}/degenerate_facts.parquet", model=MODELS),
    output:
        table=report(
            "<results>/tables/amig_table3.csv",
            caption="../report/amig_table3.rst",
            category="AMIG",
            labels={"result": "Table 3: fact-checking", "model": "all", "selection": "dkn", "language": "each"},
        ),
        coverage=report(
            "<results>/tables/amig_coverage.csv",
            caption="../report/amig_coverage.rst",
            category="AMIG",
            labels={
                "result": "relations that fact-checking could use",
                "model": "all",
                "selection": "dkn",
                "language": "each",
            },
        ),
    log:
        "<logs>/summarise_fact_checking.log",
    localrule: True
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=megabytes(4000),
        runtime=minutes(60),
    params:
        settings=lookup(within=config, dpath="experiments/fact_checking"),
        printed=catalog_of("paper_results/amig.yaml"),
        resamples=lookup(within=config, dpath="statistics/resamples"),
        seed=lookup(within=config, dpath="seed"),
        code=code_of("summarise_fact_checking.py"),
    message:
        "Tabulating AMIG's Table 3"
    script:
        "../scripts/summarise_fact_checking.py"
