# Tables: measurements summarised over facts, with intervals and n.


rule tables:
    input:
        expand("<results>/tables/{table}.csv", table=TABLES),
        expand("<results>/papers/{paper}.csv", paper=PAPERS),


rule tabulate_facts:
    input:
        cleaning="<results>/facts/cleaning.csv",
        prompts="<results>/facts/prompt_steps.csv",
        modes="<results>/facts/prompt_modes.csv",
    output:
        table=report(
            "<results>/tables/facts.csv",
            caption="../report/facts.rst",
            category="Facts and models",
            labels={"result": "facts and prompts", "model": "all", "selection": "-", "language": "all"},
        ),
    log:
        "<logs>/tabulate_facts.log",
    localrule: True
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=megabytes(2000),
        runtime=minutes(10),
    params:
        code=code_of("tabulate_facts.py"),
    message:
        "Tabulating what the cleaning of facts and prompts kept"
    script:
        "../scripts/tabulate_facts.py"


rule tabulate_gates:
    input:
        gates=expand("<results>/models/{model}/gates.csv", model=TRAINED),
    output:
        table=report(
            "<results>/tables/gates.csv",
            caption="../report/gates.rst",
            category="Facts and models",
            labels={"result": "gates of the trained models", "model": "all", "selection": "-", "language": "all"},
        ),
    log:
        "<logs>/tabulate_gates.log",
    localrule: True
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=megabytes(2000),
        runtime=minutes(10),
    params:
        models=TRAINED,
        code=code_of("tabulate_gates.py"),
    message:
        "Tabulating the gates of the trained models"
    script:
        "../scripts/tabulate_gates.py"


rule summarise_known:
    input:
        known=expand("<results>/known/{model}.parquet", model=MODELS),
    output:
        table=report(
            "<results>/tables/known.csv",
            caption="../report/known.rst",
            category="Facts and models",
            labels={"result": "facts that a model knows", "model": "all", "selection": "-", "language": "each"},
        ),
    log:
        "<logs>/summarise_known.log",
    localrule: True
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=megabytes(2000),
        runtime=minutes(10),
    params:
        resamples=lookup(within=config, dpath="statistics/resamples"),
        seed=lookup(within=config, dpath="seed"),
        code=code_of("summarise_known.py"),
    message:
        "Summarising what the models know"
    script:
        "../scripts/summarise_known.py"


rule summarise_exactness:
    input:
        queries=expand("<results>/scores/{model}.queries.parquet", model=MODELS),
    output:
        table=report(
            "<results>/tables/exactness.csv",
            caption="../report/exactness.rst",
            category="Neurons",
            labels={"result": "exactness of attributions", "model": "each", "selection": "-", "language": "each"},
        ),
    log:
        "<logs>/summarise_exactness.log",
    localrule: True
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=megabytes(4000),
        runtime=minutes(10),
    params:
        models=list(MODELS),
        resamples=lookup(within=config, dpath="statistics/resamples"),
        seed=lookup(within=config, dpath="seed"),
        code=code_of("summarise_exactness.py"),
    message:
        "Summarising how exact the attributions are"
    script:
        "../scripts/summarise_exactness.py"


rule summarise_screening:
    input:
        queries=expand("<results>/scores/{model}.queries.parquet", model=MODELS),
    output:
        table=report(
            "<results>/tables/screening.csv",
            caption="../report/screening.rst",
            category="Neurons",
            labels={"result": "what a screening misses", "model": "each", "selection": "-", "language": "each"},
        ),
    log:
        "<logs>/summarise_screening.log",
    localrule: True
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=megabytes(4000),
        runtime=minutes(10),
    params:
        models=list(MODELS),
        reference=lookup(within=config, dpath="attribution/screening/reference"),
        kept=lookup(within=config, dpath="attribution/screening/kept"),
        resamples=lookup(within=config, dpath="statistics/resamples"),
        seed=lookup(within=config, dpath="seed"),
        code=code_of("summarise_screening.py"),
    message:
        "Summarising what a screening by atp misses"
    script:
        "../scripts/summarise_screening.py"


rule summarise_selection:
    input:
        summaries=expand("<results>/neurons/{model}/summary.csv", model=MODELS),
        # not read: the file of a selection that was added is missing, without which Snakemake sees no change here
        neurons=expand("<results>/neurons/{model}/{selection}.parquet", model=MODELS, selection=SCORED),
    output:
        table=report(
            "<results>/tables/selection.csv",
            caption="../report/selection.rst",
            category="Neurons",
            labels={"result": "sizes of the neuron sets", "model": "all", "selection": "each", "language": "each"},
        ),
    log:
        "<logs>/summarise_selection.log",
    localrule: True
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=megabytes(2000),
        runtime=minutes(10),
    params:
        models=list(MODELS),
        resamples=lookup(within=config, dpath="statistics/resamples"),
        seed=lookup(within=config, dpath="seed"),
        code=code_of("summarise_selection.py"),
    message:
        "Summarising the sizes of the neuron sets"
    script:
        "../scripts/summarise_selection.py"


rule summarise_layers:
    input:
        neurons=expand("<results>/neurons/{model}/{selection}.parquet", model=MODELS, selection=SELECTIONS),
    output:
        table=report(
            "<results>/tables/layer_distribution.csv",
            caption="../report/layers.rst",
            category="Neurons",
            labels={"result": "neurons by layer", "model": "all", "selection": "each", "language": "each"},
        ),
    log:
        "<logs>/summarise_layers.log",
    localrule: True
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=megabytes(4000),
        runtime=minutes(20),
    params:
        models=list(MODELS),
        resamples=lookup(within=config, dpath="statistics/resamples"),
        seed=lookup(within=config, dpath="seed"),
        code=code_of("summarise_layers.py"),
    message:
        "Counting neurons by layer"
    script:
        "../scripts/summarise_layers.py"


rule summarise_manipulation:
    input:
        measurements=expand("<results>/experiments/{model}/manipulation.parquet", model=MODELS),
    output:
        table=report(
            "<results>/tables/manipulation.csv",
            caption="../report/manipulation.rst",
            category="Manipulation",
            labels={"result": "change of P(answer)", "model": "all", "selection": "each", "language": "each"},
        ),
        relations=report(
            "<results>/tables/manipulation_by_relation.csv",
            caption="../report/manipulation.rst",
            category="Manipulation",
            labels={
                "result": "change of P(answer) by relation",
                "model": "all",
                "selection": "each",
                "language": "each",
            },
        ),
        separation=report(
            "<results>/tables/control_separation.csv",
            caption="../report/separation.rst",
            category="Manipulation",
            labels={
                "result": "found neurons against controls",
                "model": "all",
                "selection": "matrice",
                "language": "all",
            },
        ),
    log:
        "<logs>/summarise_manipulation.log",
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=megabytes(8000),
        runtime=minutes(60),
    params:
        reference=lookup(within=config, dpath="selection/random/reference"),
        min_p_before=lookup(within=config, dpath="experiments/min_p_before"),
        resamples=lookup(within=config, dpath="statistics/resamples"),
        seed=lookup(within=config, dpath="seed"),
        code=code_of("summarise_manipulation.py"),
    message:
        "Summarising suppression and enhancement over facts"
    script:
        "../scripts/summarise_manipulation.py"


rule write_headlines:
    input:
        separation="<results>/tables/control_separation.csv",
        selection="<results>/tables/selection.csv",
    output:
        table=report(
            "<results>/tables/headlines.csv",
            caption="../report/headlines.rst",
            category="Headlines",
            labels={"result": "headline numbers", "model": "each", "selection": "matrice", "language": "all"},
        ),
    log:
        "<logs>/write_headlines.log",
    localrule: True
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=megabytes(2000),
        runtime=minutes(10),
    params:
        models=MULTILINGUAL,
        code=code_of("write_headlines.py"),
    message:
        "Writing the headline numbers"
    script:
        "../scripts/write_headlines.py"


rule compare_papers:
    input:
        tables=[f"<results>/tables/{name}.csv" for name in TABLES if name in COMPARED],
    output:
        **{
            paper: report(
                f"<results>/papers/{paper}.csv",
                caption="../report/paper_comparison.rst",
                category="Papers against ours",
                labels={
                    "result": f"every printed number: {paper}",
                    "model": "each",
                    "selection": "each",
                    "language": "each",
                },
            )
            for paper in PAPERS
        },
    log:
        "<logs>/compare_papers.log",
    localrule: True
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=megabytes(2000),
        runtime=minutes(10),
    params:
        study=config["study"],
        printed=catalog_of("paper_results", "models.yaml"),
        code=code_of("compare_papers.py"),
    message:
        "Setting the papers' numbers beside this study's"
    script:
        "../scripts/compare_papers.py"
