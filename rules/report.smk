# The landing page, and Snakemake's report of the captions and artefacts of all rules.


# tables that say what was found
EVIDENCE = expand("<results>/tables/{table}.csv", table=TABLES) + [path for path in PLANTED if "/tables/" in path]


rule report:
    input:
        "<results>/index.html",
        "<results>/report.html",


rule judge_study:
    input:
        tables=EVIDENCE,
    output:
        badges="<results>/tables/badges.csv",
        claims="<results>/tables/claims.csv",
    log:
        "<logs>/judge_study.log",
    localrule: True
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=megabytes(2000),
        runtime=minutes(10),
    params:
        languages={name: languages_of(config, name) for name in MODELS},
        selection=lookup(within=config, dpath="selection/random/reference"),
        catalog=catalog_of("claims.yaml"),
        code=code_of("judge_study.py"),
    message:
        "Judging the study: badges, and claims of the papers"
    script:
        "../scripts/judge_study.py"


rule write_landing_page:
    input:
        badges="<results>/tables/badges.csv",
        claims="<results>/tables/claims.csv",
        tables=EVIDENCE,
        figures=rules.figures.input + CONTROL_FIGURES + [path for path in PLANTED if "/figures/" in path],
        sources=expand("<results>/models/{model}/source.json", model=MODELS),
        beside=["<results>/report.html", *expand("<results>/papers/{paper}.csv", paper=PAPERS)],
    output:
        page="<results>/index.html",
    log:
        "<logs>/write_landing_page.log",
    localrule: True
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=megabytes(2000),
        runtime=minutes(10),
    params:
        study=config,
        captions=file_digest(BASE / "report"),
        code=code_of("write_landing_page.py"),
    message:
        "Writing the landing page"
    script:
        "../scripts/write_landing_page.py"


rule write_report:
    input:
        rules.all.input,
    output:
        "<results>/report.html",
    log:
        "<logs>/report.log",
    conda:
        "../envs/report.yaml"
    resources:
        mem_mb=megabytes(4000),
        runtime=minutes(30),
    params:
        config=config,
        snakefile=str(BASE / "Snakefile"),
        code=code_of("write_report.py"),
    message:
        "Writing the report"
    script:
        "../scripts/write_report.py"
