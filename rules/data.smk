# Data: facts and prompts.

# what the study reads of the catalog: another language, relation or template changes none of its facts
LANGUAGE_ROWS = {"languages.yaml": config["languages"]}
TEMPLATE_FILES = [f"templates/{language}.yaml" for language in config["languages"]]
CLDR_FILES = ["capitals.yaml", *TEMPLATE_FILES] if config["facts"]["source"] == "cldr" else []
NAMED_RELATIONS = config["facts"]["relations"]
RELATION_ROWS = {} if NAMED_RELATIONS == "all" else dict.fromkeys(["relations.yaml", *TEMPLATE_FILES], NAMED_RELATIONS)


rule data:
    input:
        "<results>/facts/facts.parquet",
        "<results>/facts/prompts.parquet",
        "<results>/facts/data_card.md",
        "<results>/tables/facts.csv",


rule download_dataset:
    output:
        directory("data/{dataset}"),
    log:
        "<logs>/download_dataset/{dataset}.log",
    wildcard_constraints:
        dataset=any_of(read_catalog("datasets")),
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=megabytes(2000),
        runtime=minutes(60),
    params:
        catalog=catalog_of("datasets.yaml"),
        code=code_of("download_dataset.py"),
    message:
        "Downloading the data set {wildcards.dataset} (address, commit and licence: catalog/datasets.yaml)"
    script:
        "../scripts/download_dataset.py"


rule read_facts:
    input:
        datasets=dataset_folders,
        files=dataset_files,
    output:
        facts="<results>/facts/facts.parquet",
        templates="<results>/facts/templates.parquet",
        steps="<results>/facts/cleaning.csv",
    log:
        "<logs>/read_facts.log",
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=megabytes(4000),
        runtime=minutes(30),
    params:
        facts=lookup(within=config, dpath="facts"),
        languages=lookup(within=config, dpath="languages"),
        seed=lookup(within=config, dpath="seed"),
        catalog=catalog_of("relations.yaml", "languages.yaml", *CLDR_FILES, rows=LANGUAGE_ROWS | RELATION_ROWS),
        code=code_of("read_facts.py"),
    message:
        "Reading facts and templates"
    script:
        "../scripts/read_facts.py"


rule build_prompts:
    input:
        facts="<results>/facts/facts.parquet",
        templates="<results>/facts/templates.parquet",
    output:
        prompts="<results>/facts/prompts.parquet",
        steps="<results>/facts/prompt_steps.csv",
        modes="<results>/facts/prompt_modes.csv",
    log:
        "<logs>/build_prompts.log",
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=megabytes(4000),
        runtime=minutes(30),
    params:
        prompts=lookup(within=config, dpath="prompts"),
        min_queries=lookup(within=config, dpath="facts/min_queries"),
        seed=lookup(within=config, dpath="seed"),
        kinds=sorted({record["kind"] for record in MODELS.values()}),
        catalog=catalog_of("languages.yaml", rows=LANGUAGE_ROWS),
        code=code_of("build_prompts.py"),
    message:
        "Building prompts for masked and causal models"
    script:
        "../scripts/build_prompts.py"


rule write_data_card:
    input:
        facts="<results>/facts/facts.parquet",
        templates="<results>/facts/templates.parquet",
        prompts="<results>/facts/prompts.parquet",
        cleaning="<results>/facts/cleaning.csv",
        prompt_steps="<results>/facts/prompt_steps.csv",
        modes="<results>/facts/prompt_modes.csv",
        datasets=dataset_folders,
        files=dataset_files,
    output:
        card="<results>/facts/data_card.md",
    log:
        "<logs>/write_data_card.log",
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=megabytes(2000),
        runtime=minutes(10),
    params:
        study=lookup(within=config, dpath="study"),
        seed=lookup(within=config, dpath="seed"),
        languages=lookup(within=config, dpath="languages"),
        models=lookup(within=config, dpath="models"),
        facts=lookup(within=config, dpath="facts"),
        prompts=lookup(within=config, dpath="prompts"),
        catalog=catalog_of("datasets.yaml", *CLDR_FILES, rows={"datasets.yaml": DATASETS} | RELATION_ROWS),
        code=code_of("write_data_card.py"),
    message:
        "Writing the data card"
    script:
        "../scripts/write_data_card.py"
