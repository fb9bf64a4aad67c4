# Attribution: which neurons raise P(answer), per model, language (or all) and shard of facts; then gathered per model.


rule attribution:
    input:
        expand("<results>/scores/{model}.safetensors", model=MODELS),
        kept_shards,


rule choose_facts:
    input:
        known="<results>/known/{model}.parquet",
        prompts="<results>/facts/prompts.parquet",
    output:
        facts="<results>/localisation/{model}.parquet",
    log:
        "<logs>/choose_facts/{model}.log",
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=megabytes(2000),
        runtime=minutes(10),
    params:
        localisation=lookup(within=config, dpath="localisation"),
        shards=lambda wildcards: shard_count(wildcards.model),
        seed=lookup(within=config, dpath="seed"),
        code=code_of("choose_facts.py"),
    message:
        "Choosing the facts to localise in {wildcards.model}"
    script:
        "../scripts/choose_facts.py"


rule attribute_shard:
    input:
        model=model_files,
        prompts="<results>/facts/prompts.parquet",
        facts="<results>/localisation/{model}.parquet",
    output:
        scores=shard_file("<results>/attribution/{model}/{language}/{shard}.safetensors"),
        queries=shard_file("<results>/attribution/{model}/{language}/{shard}.queries.parquet"),
    log:
        "<logs>/attribute_shard/{model}.{language}.{shard}.log",
    wildcard_constraints:
        shard=r"\d+",
    conda:
        "../envs/models.yaml"
    threads: config["compute"]["threads"]
    resources:
        gpu=config["compute"]["gpus"],
        mem_mb=planned_mb("attribution"),
        runtime=planned_minutes("attribution"),
        device=DEVICE,
        batch_queries=config["compute"]["batch_queries"],
        batch_rows=attribution_rows,
    params:
        attribution=attribution_settings(config),
        languages=shard_languages,
        dtype=lookup(within=config, dpath="dtype"),
        code=code_of("attribute_shard.py"),
    message:
        "Attributing {wildcards.model}, {wildcards.language}, shard {wildcards.shard}"
    script:
        "../scripts/attribute_shard.py"


rule aggregate_scores:
    input:
        shards=shards_of,
        queries=shard_tables_of,
    output:
        scores="<results>/scores/{model}.safetensors",
        queries="<results>/scores/{model}.queries.parquet",
    log:
        "<logs>/aggregate_scores/{model}.log",
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=planned_mb("aggregate"),
        runtime=planned_minutes("aggregate"),
    params:
        languages=model_languages,
        code=code_of("aggregate_scores.py"),
    message:
        "Gathering the shards of {wildcards.model} over facts and languages"
    script:
        "../scripts/aggregate_scores.py"
