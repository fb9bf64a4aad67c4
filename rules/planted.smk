# Planted knowledge: small models into which facts are written, and what every selection finds of them (docs/planted.md).


rule planted:
    input:
        PLANTED,


rule localise_planted:
    output:
        queries="<results>/planted/{family}.queries.parquet",
        plants="<results>/planted/{family}.plants.parquet",
        ranks="<results>/planted/{family}.ranks.parquet",
        sets="<results>/planted/{family}.sets.parquet",
    log:
        "<logs>/localise_planted/{family}.log",
    wildcard_constraints:
        family=any_of(config["planted"]["families"]),
    conda:
        "../envs/models.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(4000),
        runtime=minutes(60),
    params:
        planted=lookup(within=config, dpath="planted"),
        attribution=lookup(within=config, dpath="attribution"),
        selection=lookup(within=config, dpath="selection"),
        seed=lookup(within=config, dpath="seed"),
        code=code_of("localise_planted.py"),
    message:
        "Planting facts into small models of the kind {wildcards.family}, and localising them"
    script:
        "../scripts/localise_planted.py"


rule summarise_planted:
    input:
        ranks=expand("<results>/planted/{family}.ranks.parquet", family=config["planted"]["families"]),
        sets=expand("<results>/planted/{family}.sets.parquet", family=config["planted"]["families"]),
        plants=expand("<results>/planted/{family}.plants.parquet", family=config["planted"]["families"]),
    output:
        localization="<results>/tables/planted_localization.csv",
        effects=report(
            "<results>/tables/planted_effects.csv",
            caption="../report/planted.rst",
            category="Planted knowledge",
            labels={"result": "what planted neurons do", "model": "planted", "selection": "-", "language": "all"},
        ),
    log:
        "<logs>/summarise_planted.log",
    localrule: True
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=megabytes(2000),
        runtime=minutes(20),
    params:
        resamples=lookup(within=config, dpath="statistics/resamples"),
        seed=lookup(within=config, dpath="seed"),
        code=code_of("summarise_planted.py"),
    message:
        "Tabulating which selection finds which kind of planted neuron"
    script:
        "../scripts/summarise_planted.py"


rule plot_planted:
    input:
        table="<results>/tables/planted_localization.csv",
    output:
        pdf="<results>/figures/planted.pdf",
        png=report(
            "<results>/figures/planted.png",
            caption="../report/planted.rst",
            category="Planted knowledge",
            labels={"result": "who finds which neuron", "model": "planted", "selection": "each", "language": "all"},
        ),
        csv="<results>/figures/planted.csv",
    log:
        "<logs>/plot_planted.log",
    localrule: True
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=megabytes(2000),
        runtime=minutes(10),
    params:
        code=code_of("plot_planted.py"),
    message:
        "Drawing which selection finds which kind of planted neuron"
    script:
        "../scripts/plot_planted.py"
