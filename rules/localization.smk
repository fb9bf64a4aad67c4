# The localization paper's experiments, all in English: examples before prompts, noise on embeddings, answers in small letters, neurons of
# punctuation marks (Table 2), causal tracing (Figures 6 and 7), edits of CounterFact's facts (Table 3). Tables and figures: localization_results.smk.


rule measure_context_gain:
    input:
        model=model_files,
        prompts="<results>/facts/prompts.parquet",
        templates="<results>/facts/templates.parquet",
    output:
        measurements="<results>/experiments/{model}/context_gain.parquet",
    log:
        "<logs>/measure_context_gain/{model}.log",
    conda:
        "../envs/models.yaml"
    threads: config["compute"]["threads"]
    resources:
        gpu=config["compute"]["gpus"],
        mem_mb=planned_mb("context_gain"),
        runtime=planned_minutes("context_gain"),
        device=DEVICE,
        batch_rows=batch_rows,
    params:
        settings=settings_of("context_gain"),
        languages=[ENGLISH],
        dtype=lookup(within=config, dpath="dtype"),
        seed=lookup(within=config, dpath="seed"),
        code=code_of("measure_context_gain.py"),
    message:
        "Asking {wildcards.model} with examples before the prompts"
    script:
        "../scripts/measure_context_gain.py"


rule measure_perturbation:
    input:
        model=model_files,
        prompts="<results>/facts/prompts.parquet",
    output:
        measurements="<results>/experiments/{model}/perturbation.parquet",
    log:
        "<logs>/measure_perturbation/{model}.log",
    conda:
        "../envs/models.yaml"
    threads: config["compute"]["threads"]
    resources:
        gpu=config["compute"]["gpus"],
        mem_mb=planned_mb("perturbation"),
        runtime=planned_minutes("perturbation"),
        device=DEVICE,
        batch_rows=batch_rows,
    params:
        settings=settings_of("perturbation"),
        languages=[ENGLISH],
        dtype=lookup(within=config, dpath="dtype"),
        seed=lookup(within=config, dpath="seed"),
        code=code_of("measure_perturbation.py"),
    message:
        "Perturbing the word embeddings of {wildcards.model}"
    script:
        "../scripts/measure_perturbation.py"


rule measure_answer_case:
    input:
        model=model_files,
        prompts="<results>/facts/prompts.parquet",
        neurons="<results>/neurons/{model}/refined.parquet",
    output:
        measurements="<results>/experiments/{model}/answer_case.parquet",
    log:
        "<logs>/measure_answer_case/{model}.log",
    conda:
        "../envs/models.yaml"
    threads: config["compute"]["threads"]
    resources:
        gpu=config["compute"]["gpus"],
        mem_mb=planned_mb("answer_case"),
        runtime=planned_minutes("answer_case"),
        device=DEVICE,
        batch_rows=batch_rows,
    params:
        settings=dict(factor=config["experiments"]["suppress_factor"]),
        positions=lookup(within=config, dpath="experiments/intervene_positions"),
        site=lookup(within=config, dpath="experiments/intervene_site"),
        languages=[ENGLISH],
        dtype=lookup(within=config, dpath="dtype"),
        seed=lookup(within=config, dpath="seed"),
        code=code_of("measure_answer_case.py"),
    message:
        "Measuring answers of {wildcards.model} as written and in small letters"
    script:
        "../scripts/measure_answer_case.py"


rule collect_punctuation:
    input:
        facts="<results>/facts/facts.parquet",
        corpus=PUNCTUATION_CORPUS or [],
    output:
        sentences="<results>/facts/punctuation.parquet",
    log:
        "<logs>/collect_punctuation.log",
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=megabytes(2000),
        runtime=minutes(30),
    params:
        corpus=PUNCTUATION_CORPUS,
        per_mark=lookup(within=config, dpath="experiments/punctuation/sentences"),
        seed=lookup(within=config, dpath="seed"),
        catalog=catalog_of("punctuation.yaml"),
        code=code_of("collect_punctuation.py"),
    message:
        "Collecting sentences that end in each punctuation mark"
    script:
        "../scripts/collect_punctuation.py"


rule attribute_punctuation:
    input:
        model=model_files,
        sentences="<results>/facts/punctuation.parquet",
    output:
        neurons="<results>/experiments/{model}/punctuation.parquet",
        answers="<results>/experiments/{model}/punctuation_answers.parquet",
    log:
        "<logs>/attribute_punctuation/{model}.log",
    conda:
        "../envs/models.yaml"
    threads: config["compute"]["threads"]
    resources:
        gpu=config["compute"]["gpus"],
        mem_mb=planned_mb("punctuation"),
        runtime=planned_minutes("punctuation"),
        device=DEVICE,
        batch_rows=batch_rows,
    params:
        settings=punctuation_settings("sentences", "ratio", "steps", "readings", "n_control", "kept_share"),
        attribution=lookup(within=config, dpath="attribution"),
        dtype=lookup(within=config, dpath="dtype"),
        seed=lookup(within=config, dpath="seed"),
        code=code_of("attribute_punctuation.py"),
    message:
        "Finding the neurons of punctuation marks in {wildcards.model}"
    script:
        "../scripts/attribute_punctuation.py"


rule trace_causes:
    input:
        model=model_files,
        prompts="<results>/facts/prompts.parquet",
        facts="<results>/facts/facts.parquet",
        dataset=dataset_of("causal_tracing", "known_1000"),
    output:
        measurements="<results>/experiments/{model}/causal_tracing.parquet",
    log:
        "<logs>/trace_causes/{model}.log",
    conda:
        "../envs/models.yaml"
    threads: config["compute"]["threads"]
    resources:
        gpu=config["compute"]["gpus"],
        mem_mb=planned_mb("causal_tracing"),
        runtime=planned_minutes("causal_tracing"),
        device=DEVICE,
        batch_rows=batch_rows,
    params:
        settings={key: value for key, value in settings_of("causal_tracing").items() if key != "source"},
        known=file_of("causal_tracing", "known_1000"),
        languages=[ENGLISH],
        dtype=lookup(within=config, dpath="dtype"),
        seed=lookup(within=config, dpath="seed"),
        code=code_of("trace_causes.py"),
    message:
        "Tracing causes in {wildcards.model}"
    script:
        "../scripts/trace_causes.py"


rule make_counterfact:
    input:
        facts="<results>/facts/facts.parquet",
        templates="<results>/facts/templates.parquet",
        known=expand("<results>/known/{model}.parquet", model=LOCALIZED),
        dataset=dataset_of("counterfact", "counterfact"),
    output:
        counterfact="<results>/facts/counterfact.json",
    log:
        "<logs>/make_counterfact.log",
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=megabytes(2000),
        runtime=minutes(30),
    params:
        path=file_of("counterfact", "counterfact"),
        records=lookup(within=config, dpath="experiments/counterfact/records"),
        known_by=lookup(within=config, dpath="experiments/counterfact/known_by"),
        language=ENGLISH,
        seed=lookup(within=config, dpath="seed"),
        code=code_of("make_counterfact.py"),
    message:
        "Making counterfactual rewrites"
    script:
        "../scripts/make_counterfact.py"


rule measure_key_statistics:
    input:
        model=model_files,
        prompts="<results>/facts/prompts.parquet",
        corpus=config["experiments"]["rome"]["key_text"]["corpus"] or [],
    output:
        statistics="<results>/models/{model}/key_statistics.safetensors",
    log:
        "<logs>/measure_key_statistics/{model}.log",
    conda:
        "../envs/models.yaml"
    threads: config["compute"]["threads"]
    resources:
        gpu=config["compute"]["gpus"],
        mem_mb=planned_mb("key_statistics"),
        runtime=planned_minutes("key_statistics"),
        device=DEVICE,
        batch_rows=batch_rows,
    params:
        settings=lookup(within=config, dpath="experiments/rome/key_text"),
        layers=rome_layers,
        languages=model_languages,
        dtype=lookup(within=config, dpath="dtype"),
        seed=lookup(within=config, dpath="seed"),
        code=code_of("measure_key_statistics.py"),
    message:
        "Measuring the second moment of the keys of {wildcards.model}"
    script:
        "../scripts/measure_key_statistics.py"


rule edit_counterfact:
    input:
        model=model_files,
        counterfact="<results>/facts/counterfact.json",
        statistics=key_statistics_of,
    output:
        measurements="<results>/experiments/{model}/counterfact.parquet",
    log:
        "<logs>/edit_counterfact/{model}.log",
    conda:
        "../envs/models.yaml"
    threads: config["compute"]["threads"]
    resources:
        gpu=config["compute"]["gpus"],
        mem_mb=planned_mb("counterfact"),
        runtime=planned_minutes("counterfact"),
        device=DEVICE,
        batch_rows=batch_rows,
    params:
        settings=counterfact_settings,
        language=ENGLISH,
        dtype=lookup(within=config, dpath="dtype"),
        seed=lookup(within=config, dpath="seed"),
        code=code_of("edit_counterfact.py"),
    message:
        "Editing facts of CounterFact in {wildcards.model}"
    script:
        "../scripts/edit_counterfact.py"
