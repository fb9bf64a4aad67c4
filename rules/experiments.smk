# Experiments: neuron sets and prompts in, tidy tables of measurements out; one job per model.


rule experiments:
    input:
        expand("<results>/experiments/{model}/manipulation.parquet", model=MODELS),


rule manipulate_activations:
    input:
        model=model_files,
        prompts="<results>/facts/prompts.parquet",
        neurons=expand("<results>/neurons/{{model}}/{selection}.parquet", selection=SELECTIONS),
    output:
        measurements="<results>/experiments/{model}/manipulation.parquet",
    log:
        "<logs>/manipulate_activations/{model}.log",
    conda:
        "../envs/models.yaml"
    threads: config["compute"]["threads"]
    resources:
        gpu=config["compute"]["gpus"],
        mem_mb=planned_mb("manipulation"),
        runtime=planned_minutes("manipulation"),
        device=DEVICE,
        batch_rows=batch_rows,
    params:
        suppress_factor=lookup(within=config, dpath="experiments/suppress_factor"),
        enhance_factor=lookup(within=config, dpath="experiments/enhance_factor"),
        positions=lookup(within=config, dpath="experiments/intervene_positions"),
        site=lookup(within=config, dpath="experiments/intervene_site"),
        languages=model_languages,
        dtype=lookup(within=config, dpath="dtype"),
        seed=lookup(within=config, dpath="seed"),
        code=code_of("manipulate_activations.py"),
    message:
        "Suppressing and enhancing every selection's neurons in {wildcards.model}"
    script:
        "../scripts/manipulate_activations.py"
