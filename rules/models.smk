# Models: trained here or found elsewhere, and what they know.


rule models:
    input:
        expand("<results>/known/{model}.parquet", model=MODELS),
        "<results>/tables/gates.csv",


rule train_model:
    input:
        facts="<results>/facts/facts.parquet",
        templates="<results>/facts/templates.parquet",
    output:
        weights=directory("<results>/models/{model}/weights"),
        source="<results>/models/{model}/source.json",
        splits="<results>/models/{model}/splits.parquet",
        gates="<results>/models/{model}/gates.csv",
    log:
        "<logs>/train_model/{model}.log",
    wildcard_constraints:
        model=any_of(TRAINED),
    conda:
        "../envs/models.yaml"
    threads: 1
    resources:
        mem_mb=planned_mb("train"),
        runtime=planned_minutes("train"),
    params:
        recipe=own_recipe,
        languages=model_languages,
        seed=lookup(within=config, dpath="seed"),
        catalog=catalog_of("punctuation.yaml"),
        code=code_of("train_model.py"),
    message:
        "Training {wildcards.model} on the facts, and measuring its gates"
    script:
        "../scripts/train_model.py"


rule resolve_model:
    input:
        given_files,
    output:
        source="<results>/models/{model}/source.json",
    log:
        "<logs>/resolve_model/{model}.log",
    wildcard_constraints:
        model=any_of(GIVEN),
    conda:
        "../envs/models.yaml"
    resources:
        mem_mb=planned_mb("resolve"),
        runtime=planned_minutes("resolve"),
    params:
        record=lookup(within=MODELS, dpath="{model}"),
        code=code_of("resolve_model.py"),
    message:
        "Finding the weights of {wildcards.model}"
    script:
        "../scripts/resolve_model.py"


rule measure_known:
    input:
        model=model_files,
        prompts="<results>/facts/prompts.parquet",
    output:
        known="<results>/known/{model}.parquet",
    log:
        "<logs>/measure_known/{model}.log",
    conda:
        "../envs/models.yaml"
    threads: config["compute"]["threads"]
    resources:
        gpu=config["compute"]["gpus"],
        mem_mb=planned_mb("measure_known"),
        runtime=planned_minutes("measure_known"),
        device=DEVICE,
        batch_rows=batch_rows,
    params:
        languages=model_languages,
        dtype=lookup(within=config, dpath="dtype"),
        code=code_of("measure_known.py"),
    message:
        "Asking {wildcards.model} all queries"
    script:
        "../scripts/measure_known.py"
