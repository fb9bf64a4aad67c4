# The plan: what a study will cost, before anything is run or downloaded; and afterwards, how wrong it was.
#   snakemake --configfile studies/papers.yaml --cores 1 plan
from knatlas.planning.known import known_files


rule plan:
    output:
        table="<results>/plan.csv",
        text="<results>/plan.md",
    log:
        "<logs>/plan.log",
    localrule: True
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=megabytes(1000),
        runtime=minutes(5),
    params:
        study=config,
        seen=known_files(config, Path("results") / config["study"]),
        catalog=catalog_of("models.yaml", "rates.yaml", "sizes.yaml"),
        code=code_of("plan_study.py"),
    message:
        "Planning the study {config[study]}"
    script:
        "../scripts/plan_study.py"


rule plan_error:
    output:
        table="<results>/plan_error.csv",
    log:
        "<logs>/plan_error.log",
    localrule: True
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=megabytes(1000),
        runtime=minutes(5),
    params:
        study=config,
        catalog=catalog_of("models.yaml", "rates.yaml", "sizes.yaml"),
        code=code_of("compare_plan.py"),
    message:
        "Comparing the study {config[study]} with its plan"
    script:
        "../scripts/compare_plan.py"
