# A job that outlives the time limit of its first attempt, with what the rules of the workflow ask for.
include: "../../rules/resources.smk"


rule outlive_limit:
    output:
        "{name}.txt",
    log:
        "{name}.log",
    resources:
        mem_mb=megabytes(2016),
        runtime=minutes(1),
        batch_rows=batch_rows,
    message:
        "Computing until the time limit"
    shell:
        "[ {resources.runtime} -gt 1 ] || sleep 120; echo {resources.batch_rows} rows > {output} 2> {log}"
