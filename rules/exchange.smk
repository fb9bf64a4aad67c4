# Exchange: neurons that other code found, as selections of the study, and pairs of sets compared (docs/exchange.md).


rule exchange:
    input:
        [f"<results>/neurons/{record['model']}/{name}.parquet" for name, record in IMPORTS.items()],
        expand("<results>/tables/{table}.csv", table=EXCHANGE_TABLES),


rule import_neurons:
    input:
        listed=imported("path"),
        facts="<results>/facts/facts.parquet",
        reference=f"<results>/neurons/{{model}}/{SELECTIONS[0]}.parquet",
        datasets=dataset_folders,
        files=dataset_files,
        mapping=mapping_files,
    output:
        neurons="<results>/neurons/{model}/{name}.parquet",
    log:
        "<logs>/import_neurons/{model}/{name}.log",
    wildcard_constraints:
        name=any_of(IMPORTS),
    conda:
        "../envs/models.yaml"
    resources:
        mem_mb=megabytes(4000),
        runtime=minutes(10),
    params:
        format=imported("format"),
        languages=imported("languages"),
        code=code_of("import_neurons.py"),
    message:
        "Importing the neurons {wildcards.name} of {wildcards.model}"
    script:
        "../scripts/import_neurons.py"


rule compare_neurons:
    input:
        first=compared_sets(0),
        second=compared_sets(1),
    output:
        table=report(
            "<results>/tables/neuron_sets.csv",
            caption="../report/neuron_sets.rst",
            category="Neurons",
            labels={"result": "neuron sets compared", "model": "each", "selection": "each", "language": "each"},
        ),
        layers=report(
            "<results>/tables/neuron_set_layers.csv",
            caption="../report/neuron_sets.rst",
            category="Neurons",
            labels={"result": "layers of compared sets", "model": "each", "selection": "each", "language": "each"},
        ),
    log:
        "<logs>/compare_neurons.log",
    localrule: True
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=megabytes(4000),
        runtime=minutes(20),
    params:
        resamples=lookup(within=config, dpath="statistics/resamples"),
        seed=lookup(within=config, dpath="seed"),
        code=code_of("compare_neurons.py"),
    message:
        "Comparing neuron sets"
    script:
        "../scripts/compare_neurons.py"
