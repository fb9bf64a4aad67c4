# Negative controls: the same rules on other answers, on made-up subjects, and on untrained copies of the models.
# A control inherits script and parameters of the rule that it repeats; only its files differ (docs/methods.md, section 7).


rule controls:
    input:
        expand("<results>/tables/{table}.csv", table=CONTROL_TABLES),
        CONTROL_FIGURES,


rule make_control_facts:
    input:
        facts="<results>/facts/facts.parquet",
    output:
        facts="<results>/controls/{control}/facts/facts.parquet",
        changes="<results>/controls/{control}/facts/changes.csv",
    log:
        "<logs>/make_control_facts/{control}.log",
    wildcard_constraints:
        control=any_of(CHANGED_PROMPTS),
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=megabytes(4000),
        runtime=minutes(30),
    params:
        seed=lookup(within=config, dpath="seed"),
        code=code_of("make_control_facts.py"),
    message:
        "Making the facts of the control {wildcards.control}"
    script:
        "../scripts/make_control_facts.py"


use rule build_prompts as build_control_prompts with:
    input:
        facts="<results>/controls/{control}/facts/facts.parquet",
        templates="<results>/facts/templates.parquet",
    output:
        prompts="<results>/controls/{control}/facts/prompts.parquet",
        steps="<results>/controls/{control}/facts/prompt_steps.csv",
        modes="<results>/controls/{control}/facts/prompt_modes.csv",
    log:
        "<logs>/build_control_prompts/{control}.log",
    wildcard_constraints:
        control=any_of(CHANGED_PROMPTS),
    message:
        "Building prompts of the control {wildcards.control}"


rule describe_untrained:
    input:
        source="<results>/models/{model}/source.json",
    output:
        source="<results>/controls/untrained/models/{model}/source.json",
    log:
        "<logs>/describe_untrained/{model}.log",
    wildcard_constraints:
        model=any_of(CONTROLLED),
    conda:
        "../envs/models.yaml"
    resources:
        mem_mb=megabytes(2000),
        runtime=minutes(10),
    params:
        seed=lookup(within=config, dpath="seed"),
        code=code_of("describe_untrained.py"),
    message:
        "Describing the untrained copy of {wildcards.model}"
    script:
        "../scripts/describe_untrained.py"


rule choose_control_facts:
    input:
        facts="<results>/localisation/{model}.parquet",
        prompts=control_prompts,
    output:
        facts="<results>/controls/{control}/localisation/{model}.parquet",
    log:
        "<logs>/choose_control_facts/{control}/{model}.log",
    wildcard_constraints:
        control=any_of(KINDS_OF_CONTROL),
        model=any_of(CONTROLLED),
    localrule: True
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=megabytes(2000),
        runtime=minutes(10),
    params:
        facts=lookup(within=config, dpath="controls/facts"),
        shards=control_shard_count,
        code=code_of("choose_control_facts.py"),
    message:
        "Taking the facts of the control {wildcards.control} in {wildcards.model}"
    script:
        "../scripts/choose_control_facts.py"


use rule attribute_shard as attribute_control with:
    input:
        model=control_model_files,
        prompts=control_prompts,
        facts="<results>/controls/{control}/localisation/{model}.parquet",
    output:
        scores=shard_file("<results>/controls/{control}/attribution/{model}/{language}/{shard}.safetensors"),
        queries=shard_file("<results>/controls/{control}/attribution/{model}/{language}/{shard}.queries.parquet"),
    log:
        "<logs>/attribute_control/{control}/{model}.{language}.{shard}.log",
    wildcard_constraints:
        control=any_of(KINDS_OF_CONTROL),
        model=any_of(CONTROLLED),
        shard=r"\d+",
    message:
        "Attributing {wildcards.model} under the control {wildcards.control}, {wildcards.language}, shard {wildcards.shard}"


use rule aggregate_scores as aggregate_control with:
    input:
        shards=control_shard_files("safetensors"),
        queries=control_shard_files("queries.parquet"),
    output:
        scores="<results>/controls/{control}/scores/{model}.safetensors",
        queries="<results>/controls/{control}/scores/{model}.queries.parquet",
    log:
        "<logs>/aggregate_control/{control}/{model}.log",
    wildcard_constraints:
        control=any_of(KINDS_OF_CONTROL),
        model=any_of(CONTROLLED),
    message:
        "Gathering the shards of {wildcards.model} under the control {wildcards.control}"


use rule select_neurons as select_control with:
    input:
        scores="<results>/controls/{control}/scores/{model}.safetensors",
    output:
        neurons=expand("<results>/controls/{{control}}/neurons/{{model}}/{selection}.parquet", selection=SCORED),
        summary="<results>/controls/{control}/neurons/{model}/summary.csv",
    log:
        "<logs>/select_control/{control}/{model}.log",
    wildcard_constraints:
        control=any_of(KINDS_OF_CONTROL),
        model=any_of(CONTROLLED),
    message:
        "Selecting neurons of {wildcards.model} under the control {wildcards.control}"


# always on the real prompts: how much of the real effect do the neurons of a null reach?
use rule manipulate_activations as manipulate_control with:
    input:
        model=control_model_files,
        prompts="<results>/facts/prompts.parquet",
        neurons=expand("<results>/controls/{{control}}/neurons/{{model}}/{selection}.parquet", selection=FOUND),
    output:
        measurements="<results>/controls/{control}/experiments/{model}/manipulation.parquet",
    log:
        "<logs>/manipulate_control/{control}/{model}.log",
    wildcard_constraints:
        control=any_of(KINDS_OF_CONTROL),
        model=any_of(CONTROLLED),
    message:
        "Suppressing and enhancing neurons of {wildcards.model} under the control {wildcards.control}"


rule summarise_controls:
    input:
        **control_results(
            ("neurons", "neurons/{model}/{selection}.parquet"),
            ("measurements", "experiments/{model}/manipulation.parquet"),
        ),
        neurons=expand("<results>/neurons/{model}/{selection}.parquet", model=CONTROLLED, selection=FOUND),
        measurements=expand("<results>/experiments/{model}/manipulation.parquet", model=CONTROLLED),
    output:
        table=report(
            "<results>/tables/controls.csv",
            caption="../report/controls.rst",
            category="Negative controls",
            labels={"result": "real against null", "model": "each", "selection": "each", "language": "all"},
        ),
        layers=report(
            "<results>/tables/control_layers.csv",
            caption="../report/controls.rst",
            category="Negative controls",
            labels={"result": "neurons by layer", "model": "each", "selection": "each", "language": "all"},
        ),
        manipulation=report(
            "<results>/tables/control_manipulation.csv",
            caption="../report/controls.rst",
            category="Negative controls",
            labels={"result": "change of P(answer)", "model": "each", "selection": "each", "language": "each"},
        ),
    log:
        "<logs>/summarise_controls.log",
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=megabytes(8000),
        runtime=minutes(60),
    params:
        controls=KINDS_OF_CONTROL,
        shown=FOUND,
        min_p_before=lookup(within=config, dpath="experiments/min_p_before"),
        permutations=lookup(within=config, dpath="statistics/permutations"),
        resamples=lookup(within=config, dpath="statistics/resamples"),
        seed=lookup(within=config, dpath="seed"),
        code=code_of("summarise_controls.py"),
    message:
        "Setting real neurons beside those of the negative controls"
    script:
        "../scripts/summarise_controls.py"


rule plot_controls:
    input:
        table="<results>/tables/controls.csv",
    output:
        pdf="<results>/figures/controls.pdf",
        png=report(
            "<results>/figures/controls.png",
            caption="../report/controls.rst",
            category="Negative controls",
            labels={"result": "real against null", "model": "each", "selection": "each", "language": "all"},
        ),
        csv="<results>/figures/controls.csv",
    log:
        "<logs>/plot_controls.log",
    localrule: True
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=megabytes(2000),
        runtime=minutes(10),
    params:
        code=code_of("plot_controls.py"),
    message:
        "Drawing real neurons beside those of the negative controls"
    script:
        "../scripts/plot_controls.py"
