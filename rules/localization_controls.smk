# Negative controls of the localization paper's models, beside its Figures 3, 4 and 6 (docs/methods.md, section 7).


# the facts that count in the real trace, whatever the model predicts under the control
use rule trace_causes as trace_control with:
    input:
        model=control_model_files,
        prompts=control_prompts,
        facts=control_facts,
        dataset=dataset_of("causal_tracing", "known_1000"),
        traced="<results>/experiments/{model}/causal_tracing.parquet",
    output:
        measurements="<results>/controls/{control}/experiments/{model}/causal_tracing.parquet",
    log:
        "<logs>/trace_control/{control}/{model}.log",
    wildcard_constraints:
        control=any_of(KINDS_OF_CONTROL),
        model=any_of(LOCALIZED_CONTROLS),
    params:
        settings=control_tracing_settings(),
    message:
        "Tracing causes in {wildcards.model} under the control {wildcards.control}"


rule summarise_control_tracing:
    input:
        **localized_control_results("causal_tracing"),
    output:
        table=report(
            "<results>/tables/control_tracing.csv",
            caption="../report/localization_controls.rst",
            category="Negative controls",
            labels={
                "result": "causal tracing by class of token",
                "model": "each",
                "selection": "-",
                "language": "en",
            },
        ),
    log:
        "<logs>/summarise_control_tracing.log",
    localrule: True
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=megabytes(4000),
        runtime=minutes(30),
    params:
        controls=KINDS_OF_CONTROL,
        seed=lookup(within=config, dpath="seed"),
        resamples=lookup(within=config, dpath="statistics/resamples"),
        code=code_of("summarise_control_tracing.py"),
    message:
        "Averaging causal traces under the negative controls"
    script:
        "../scripts/summarise_control_tracing.py"


rule summarise_control_relations:
    input:
        **localized_control_results("manipulation"),
    output:
        table=report(
            "<results>/tables/control_relations.csv",
            caption="../report/localization_controls.rst",
            category="Negative controls",
            labels={
                "result": "change of P(answer) by relation",
                "model": "each",
                "selection": "refined",
                "language": "en",
            },
        ),
    log:
        "<logs>/summarise_control_relations.log",
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=megabytes(8000),
        runtime=minutes(120),
    params:
        controls=KINDS_OF_CONTROL,
        languages=[ENGLISH],
        selections=["refined"],
        seed=lookup(within=config, dpath="seed"),
        resamples=lookup(within=config, dpath="statistics/resamples"),
        code=code_of("summarise_control_relations.py"),
    message:
        "Summarising suppression and enhancement by relation under the negative controls"
    script:
        "../scripts/summarise_control_relations.py"
