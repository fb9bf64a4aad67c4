# Causal fidelity: do the scores of the attribution methods rank neurons as their causal effects do?


# what decides which neurons are ablated, and how
FIDELITY_SETTINGS = {
    key: value
    for key, value in config["experiments"]["fidelity"].items()
    if key not in ("models", "languages", "precision_at")
}


rule measure_fidelity:
    input:
        model=model_files,
        prompts="<results>/facts/prompts.parquet",
        scores="<results>/scores/{model}.safetensors",
    output:
        effects="<results>/experiments/{model}/fidelity_effects.parquet",
        curves="<results>/experiments/{model}/fidelity_curves.parquet",
    log:
        "<logs>/measure_fidelity/{model}.log",
    conda:
        "../envs/models.yaml"
    threads: config["compute"]["threads"]
    resources:
        gpu=config["compute"]["gpus"],
        mem_mb=planned_mb("fidelity"),
        runtime=planned_minutes("fidelity"),
        device=DEVICE,
        batch_rows=batch_rows,
    params:
        settings=FIDELITY_SETTINGS,
        positions=lookup(within=config, dpath="experiments/intervene_positions"),
        site=lookup(within=config, dpath="experiments/intervene_site"),
        languages=lambda wildcards: FIDELITY.get(wildcards.model, []),
        dtype=lookup(within=config, dpath="dtype"),
        seed=lookup(within=config, dpath="seed"),
        code=code_of("measure_fidelity.py"),
    message:
        "Ablating neurons of {wildcards.model} one at a time, and in growing sets"
    script:
        "../scripts/measure_fidelity.py"


rule summarise_fidelity:
    input:
        effects=expand("<results>/experiments/{model}/fidelity_effects.parquet", model=FIDELITY),
        curves=expand("<results>/experiments/{model}/fidelity_curves.parquet", model=FIDELITY),
        scores=expand("<results>/scores/{model}.safetensors", model=FIDELITY),
    output:
        table=report(
            "<results>/tables/fidelity.csv",
            caption="../report/fidelity.rst",
            category="Causal fidelity",
            labels={"result": "scores against effects", "model": "each", "selection": "-", "language": "each"},
        ),
        curves=report(
            "<results>/tables/suppression_curves.csv",
            caption="../report/fidelity.rst",
            category="Causal fidelity",
            labels={"result": "suppression curves", "model": "each", "selection": "-", "language": "each"},
        ),
    log:
        "<logs>/summarise_fidelity.log",
    localrule: True
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=megabytes(4000),
        runtime=minutes(60),
    params:
        settings={
            "precision_at": config["experiments"]["fidelity"]["precision_at"],
            "draws": config["experiments"]["fidelity"]["draws"],
            "min_p_before": config["experiments"]["min_p_before"],
        },
        permutations=lookup(within=config, dpath="statistics/permutations"),
        resamples=lookup(within=config, dpath="statistics/resamples"),
        seed=lookup(within=config, dpath="seed"),
        code=code_of("summarise_fidelity.py"),
    message:
        "Comparing scores with the effects of single neurons"
    script:
        "../scripts/summarise_fidelity.py"


rule plot_fidelity:
    input:
        table="<results>/tables/fidelity.csv",
        curves="<results>/tables/suppression_curves.csv",
    output:
        pdf="<results>/figures/fidelity.pdf",
        png=report(
            "<results>/figures/fidelity.png",
            caption="../report/fidelity.rst",
            category="Causal fidelity",
            labels={"result": "scores against effects", "model": "each", "selection": "-", "language": "all"},
        ),
        csv="<results>/figures/fidelity.csv",
    log:
        "<logs>/plot_fidelity.log",
    localrule: True
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=megabytes(2000),
        runtime=minutes(10),
    params:
        code=code_of("plot_fidelity.py"),
    message:
        "Drawing scores against the effects of single neurons"
    script:
        "../scripts/plot_fidelity.py"
