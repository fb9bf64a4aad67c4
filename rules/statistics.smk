# Statistics over what is measured: permutation tests of the figures' contrasts, and how stable neuron sets are (docs/methods.md, section 8).


rule compare_contrasts:
    input:
        measurements=expand("<results>/experiments/{model}/manipulation.parquet", model=MODELS),
        enhanced=expand(
            "<results>/experiments/{model}/enhancement.parquet",
            model=MULTILINGUAL if "matrice_figure6" in TESTED else [],
        ),
        edited=expand(
            "<results>/experiments/{model}/weight_edits.parquet",
            model=MULTILINGUAL if {"matrice_table3", "matrice_table4"} & set(TESTED) else [],
        ),
        injection=expand(
            "<results>/experiments/{model}/injection.parquet",
            model=MULTILINGUAL if "matrice_table5" in TESTED_TABLES else [],
        ),
        crosslingual=expand(
            "<results>/experiments/{model}/crosslingual.parquet",
            model=MULTILINGUAL if "amig_table2" in TESTED_TABLES else [],
        ),
        counterfact=expand(
            "<results>/experiments/{model}/counterfact.parquet",
            model=LOCALIZED if "localization_table3" in TESTED_TABLES else [],
        ),
    output:
        table=report(
            "<results>/tables/significance.csv",
            caption="../report/significance.rst",
            category="Statistics",
            labels={"result": "permutation tests", "model": "each", "selection": "each", "language": "each"},
        ),
    log:
        "<logs>/compare_contrasts.log",
    localrule: True
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=megabytes(8000),
        runtime=minutes(30),
    params:
        figures=TESTED,
        tables=TESTED_TABLES,
        success_rate=lookup(within=config, dpath="experiments/success_rate"),
        facts=lookup(within=config, dpath="experiments/crosslingual/facts"),
        random=RANDOM_CONTROLS,
        reference=lookup(within=config, dpath="selection/random/reference"),
        min_p_before=lookup(within=config, dpath="experiments/min_p_before"),
        permutations=lookup(within=config, dpath="statistics/permutations"),
        resamples=lookup(within=config, dpath="statistics/resamples"),
        seed=lookup(within=config, dpath="seed"),
        code=code_of("compare_contrasts.py"),
    message:
        "Testing what figures and tables show"
    script:
        "../scripts/compare_contrasts.py"


rule measure_stability:
    input:
        facts="<results>/facts/facts.parquet",
        neurons=expand("<results>/neurons/{model}/{selection}.parquet", model=MODELS, selection=SELECTIONS),
        scores=expand("<results>/scores/{model}.safetensors", model=MODELS),
        queries=expand("<results>/scores/{model}.queries.parquet", model=MODELS),
        measurements=expand("<results>/experiments/{model}/manipulation.parquet", model=MODELS),
    output:
        stability=report(
            "<results>/tables/stability.csv",
            caption="../report/stability.rst",
            category="Statistics",
            labels={"result": "stability of neuron sets", "model": "each", "selection": "each", "language": "each"},
        ),
        shared=report(
            "<results>/tables/shared_names.csv",
            caption="../report/stability.rst",
            category="Statistics",
            labels={"result": "names written alike", "model": "each", "selection": "each", "language": "pairs"},
        ),
    log:
        "<logs>/measure_stability.log",
    localrule: True
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=megabytes(4000),
        runtime=minutes(30),
    params:
        models=list(MODELS),
        selections=SELECTIONS,
        shared=chosen(["bkn", "refined", "amig", "likn", "matrice", "matrice_leave_language_out"]),
        pairs=[
            pair
            for pair in [
                ["matrice", "matrice_without_query_uncertainty"],
                ["matrice", "matrice_without_query_uncertainty_matched"],
                ["refined", "bkn"],
            ]
            if set(pair) <= set(SELECTIONS)
        ],
        refined_share=lookup(within=config, dpath="selection/refined/share"),
        languages={model: languages_of(config, model) for model in MODELS},
        min_p_before=lookup(within=config, dpath="experiments/min_p_before"),
        resamples=lookup(within=config, dpath="statistics/resamples"),
        seed=lookup(within=config, dpath="seed"),
        code=code_of("measure_stability.py"),
    message:
        "Measuring how stable neuron sets are"
    script:
        "../scripts/measure_stability.py"
