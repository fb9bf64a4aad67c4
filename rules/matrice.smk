# The MATRICE paper's experiments: facts erased and updated in the weights (Tables III and IV), answers enhanced in low-resource
# languages (Figures 6 and 7), injection by fine-tuning (Table V), sweeps over its settings. Suppression is in experiments.smk.


rule edit_weights:
    input:
        model=model_files,
        prompts="<results>/facts/prompts.parquet",
        neurons=expand("<results>/neurons/{{model}}/{selection}.parquet", selection=EDITED),
        facts="<results>/facts/facts.parquet",
        statistics=key_statistics_of,
    output:
        measurements="<results>/experiments/{model}/weight_edits.parquet",
    log:
        "<logs>/edit_weights/{model}.log",
    conda:
        "../envs/models.yaml"
    threads: config["compute"]["threads"]
    resources:
        gpu=config["compute"]["gpus"],
        mem_mb=planned_mb("weight_edits"),
        runtime=planned_minutes("weight_edits"),
        device=DEVICE,
        batch_rows=batch_rows,
    params:
        settings=weight_edit_settings,
        languages=model_languages,
        dtype=lookup(within=config, dpath="dtype"),
        seed=lookup(within=config, dpath="seed"),
        code=code_of("edit_weights.py"),
    message:
        "Erasing and updating facts in the weights of {wildcards.model}"
    script:
        "../scripts/edit_weights.py"


rule enhance_answers:
    input:
        model=model_files,
        prompts="<results>/facts/prompts.parquet",
        neurons=expand("<results>/neurons/{{model}}/{selection}.parquet", selection=ENHANCED),
    output:
        measurements="<results>/experiments/{model}/enhancement.parquet",
        cases="<results>/experiments/{model}/cases.parquet",
    log:
        "<logs>/enhance_answers/{model}.log",
    conda:
        "../envs/models.yaml"
    threads: config["compute"]["threads"]
    resources:
        gpu=config["compute"]["gpus"],
        mem_mb=planned_mb("enhancement"),
        runtime=planned_minutes("enhancement"),
        device=DEVICE,
        batch_rows=batch_rows,
    params:
        settings=enhancement_settings,
        positions=lookup(within=config, dpath="experiments/intervene_positions"),
        site=lookup(within=config, dpath="experiments/intervene_site"),
        languages=model_languages,
        dtype=lookup(within=config, dpath="dtype"),
        seed=lookup(within=config, dpath="seed"),
        code=code_of("enhance_answers.py"),
    message:
        "Enhancing answers of {wildcards.model} in low-resource languages"
    script:
        "../scripts/enhance_answers.py"


rule inject_facts:
    input:
        model=model_files,
        prompts="<results>/facts/prompts.parquet",
        neurons=expand("<results>/neurons/{{model}}/{selection}.parquet", selection=INJECTED),
    output:
        measurements="<results>/experiments/{model}/injection.parquet",
        curves="<results>/experiments/{model}/injection_curves.parquet",
    log:
        "<logs>/inject_facts/{model}.log",
    conda:
        "../envs/models.yaml"
    threads: config["compute"]["threads"]
    resources:
        gpu=config["compute"]["gpus"],
        mem_mb=planned_mb("injection"),
        runtime=planned_minutes("injection"),
        device=DEVICE,
        batch_rows=batch_rows,
    params:
        settings=settings_of("injection"),
        languages=model_languages,
        dtype=lookup(within=config, dpath="dtype"),
        seed=lookup(within=config, dpath="seed"),
        code=code_of("inject_facts.py"),
    message:
        "Injecting facts into {wildcards.model} by fine-tuning"
    script:
        "../scripts/inject_facts.py"


rule sweep_settings:
    input:
        model=model_files,
        prompts="<results>/facts/prompts.parquet",
        scores="<results>/scores/{model}.safetensors",
    output:
        measurements="<results>/experiments/{model}/sweeps.parquet",
    log:
        "<logs>/sweep_settings/{model}.log",
    conda:
        "../envs/models.yaml"
    threads: config["compute"]["threads"]
    resources:
        gpu=config["compute"]["gpus"],
        mem_mb=planned_mb("sweeps"),
        runtime=planned_minutes("sweeps"),
        device=DEVICE,
        batch_rows=batch_rows,
    params:
        selection=lookup(within=config, dpath="selection"),
        sweeps=lookup(within=config, dpath="experiments/sweeps"),
        suppress_factor=lookup(within=config, dpath="experiments/suppress_factor"),
        enhance_factor=lookup(within=config, dpath="experiments/enhance_factor"),
        positions=lookup(within=config, dpath="experiments/intervene_positions"),
        site=lookup(within=config, dpath="experiments/intervene_site"),
        languages=model_languages,
        dtype=lookup(within=config, dpath="dtype"),
        seed=lookup(within=config, dpath="seed"),
        code=code_of("sweep_settings.py"),
    message:
        "Sweeping tau, alpha and beta of MATRICE in {wildcards.model}"
    script:
        "../scripts/sweep_settings.py"
