# Figures: drawn from tables alone, as pdf and png with the csv behind each.


rule figures:
    input:
        expand(
            "<results>/figures/{figure}.{ext}",
            figure=FIGURES,
            ext=["pdf", "png", "csv"],
        ),


rule plot_layers:
    input:
        table=layer_table,
        controls=null_tables("control_layers"),
    output:
        pdf="<results>/figures/{figure}.pdf",
        png=report(
            "<results>/figures/{figure}.png",
            caption="../report/layers.rst",
            category="Neurons",
            labels={"result": "{figure}", "model": "each", "selection": "each", "language": "each"},
        ),
        csv="<results>/figures/{figure}.csv",
    log:
        "<logs>/plot_layers/{figure}.log",
    wildcard_constraints:
        figure="amig_figure3|amig_figure4|amig_figure5|matrice_figure4|localization_figure5",
    localrule: True
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=megabytes(2000),
        runtime=minutes(10),
    params:
        models=figure_models,
        selections=figure_selections,
        code=code_of("plot_layers.py"),
    message:
        "Drawing {wildcards.figure}: neurons by layer"
    script:
        "../scripts/plot_layers.py"


rule plot_manipulation:
    input:
        table="<results>/tables/manipulation.csv",
        controls=null_tables("control_manipulation", "matrice_figure5"),
    output:
        pdf="<results>/figures/matrice_figure5.pdf",
        png=report(
            "<results>/figures/matrice_figure5.png",
            caption="../report/manipulation.rst",
            category="Manipulation",
            labels={"result": "matrice_figure5", "model": "each", "selection": "each", "language": "each"},
        ),
        csv="<results>/figures/matrice_figure5.csv",
    log:
        "<logs>/plot_manipulation.log",
    localrule: True
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=megabytes(2000),
        runtime=minutes(10),
    params:
        models=MULTILINGUAL,
        min_p_before=lookup(within=config, dpath="experiments/min_p_before"),
        code=code_of("plot_manipulation.py"),
    message:
        "Drawing matrice_figure5: suppression and enhancement"
    script:
        "../scripts/plot_manipulation.py"
