# Selection: from scores to neuron sets, every selection of a model in one short job.


rule selection:
    input:
        expand("<results>/neurons/{model}/{selection}.parquet", model=MODELS, selection=SELECTIONS),


rule select_neurons:
    input:
        scores="<results>/scores/{model}.safetensors",
    output:
        neurons=expand("<results>/neurons/{{model}}/{selection}.parquet", selection=SCORED),
        summary="<results>/neurons/{model}/summary.csv",
    log:
        "<logs>/select_neurons/{model}.log",
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=planned_mb("selection"),
        runtime=planned_minutes("selection"),
    params:
        selection=lookup(within=config, dpath="selection"),
        seed=lookup(within=config, dpath="seed"),
        code=code_of("select_neurons.py"),
    message:
        "Selecting neurons of {wildcards.model}"
    script:
        "../scripts/select_neurons.py"
