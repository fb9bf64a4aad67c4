# Report: one HTML file from the captions and artefacts of all rules.


rule report:
    input:
        rules.all.input,
    output:
        "<results>/report.html",
    log:
        "<logs>/report.log",
    conda:
        "../envs/report.yaml"
    resources:
        mem_mb=4000,
        runtime=minutes(30),
    params:
        config=config,
        snakefile=workflow.main_snakefile,
        code=code_of("write_report.py"),
    message:
        "Writing the report"
    script:
        "../scripts/write_report.py"
