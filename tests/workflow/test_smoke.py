"""The smoke study through Snakemake for real, and what reruns when something changes."""

import shutil
from collections import Counter

import numpy as np
import pandas as pd
import pytest

from knatlas.experiments.traced_facts import usable_facts
from knatlas.provenance import file_digest
from knatlas.storage import read_json, read_metadata, read_table, write_table
from tests.browser import look, need_browser
from tests.page_reader import Reader, broken_links

from .conftest import Workflow, refused

pytestmark = pytest.mark.workflow

# what hangs on the neuron sets of one model
DOWN_FROM_SELECTION = {
    "select_neurons": 1,
    "manipulate_activations": 1,
    "edit_across_languages": 1,
    "search_degenerate": 1,
    "score_candidates": 1,
    "summarise_success_rate": 1,
    "summarise_crosslingual": 1,
    "summarise_degenerate": 1,
    "summarise_fact_checking": 1,
    "edit_weights": 1,
    "enhance_answers": 1,
    "inject_facts": 1,
    "summarise_ablation": 1,
    "summarise_weight_edits": 1,
    "summarise_injection": 1,
    "summarise_enhancement": 1,
    "plot_enhancement": 1,
    "plot_cases": 1,
    "sweep_settings": 1,
    "summarise_sweeps": 1,
    "plot_sweeps": 1,
    "summarise_selection": 1,
    "summarise_layers": 1,
    "summarise_manipulation": 1,
    "write_headlines": 1,
    "measure_answer_case": 1,
    "summarise_answer_case": 1,
    "summarise_relations": 1,
    "compare_neurons": 1,
    "judge_study": 1,
    "compare_contrasts": 1,
    "measure_stability": 1,
    "compare_papers": 1,
    "plot_layers": 4,
    "plot_relations": 3,
    "plot_manipulation": 1,
}


# what hangs on the settings and functions of selections, whatever the study has measured
PLANTED = Counter({"localise_planted": 1, "summarise_planted": 1, "plot_planted": 1})
# what hangs on the scores of smoke-gpt2, the model whose neurons are ablated one at a time, and on no selection
FIDELITY = Counter({"measure_fidelity": 1, "summarise_fidelity": 1, "plot_fidelity": 1})
# what hangs on the settings and functions of selections under the negative controls, which are those of smoke-bert
CONTROLS = Counter({"select_control": 3, "manipulate_control": 3, "summarise_controls": 1, "plot_controls": 1})
CONTROLS += Counter({"summarise_control_relations": 1})


def of_all_models(jobs: dict) -> Counter:
    per_model = {"select_neurons", "manipulate_activations", "edit_across_languages", "search_degenerate"}
    per_model |= {"score_candidates", "edit_weights", "enhance_answers", "inject_facts", "sweep_settings"}
    per_model |= {"measure_answer_case"}
    return Counter({rule: 3 * n if rule in per_model else n for rule, n in jobs.items()})


def test_every_artefact_is_there(computed):
    figures = ["amig_figure3", "amig_figure4", *(f"matrice_figure{i}" for i in range(4, 8)), "matrice_sweeps"]
    figures += ["matrice_figure5_relations", "localization_perturbation", "fidelity", "controls"]
    figures += [f"localization_figure{i}" for i in range(3, 8)]
    for figure in figures:
        for ending in ("pdf", "png", "csv"):
            assert (computed.results / "figures" / f"{figure}.{ending}").stat().st_size > 200
    tables = computed.results / "tables"
    measured = (
        "known",
        "exactness",
        "manipulation",
        "control_separation",
        "layer_distribution",
        "selection",
        "headlines",
        *("controls", "control_layers", "control_manipulation", "control_relations", "control_tracing"),
        *("amig_table1", "amig_table2", "amig_table3", "amig_degenerate", "amig_degenerate_layers"),
        *(f"matrice_table{i}" for i in range(2, 6)),
        *("matrice_enhancement", "matrice_sweeps", "localization_table2", "localization_table3"),
        *(f"localization_{name}" for name in ("relations", "context_gain", "perturbation", "answer_case")),
        *("localization_punctuation", "localization_tracing", "fidelity", "suppression_curves"),
    )
    for table in ("facts", "gates", *measured):
        frame = pd.read_csv(tables / f"{table}.csv")
        assert len(frame) > 0
        if table in measured:
            assert {"value", "lo", "hi", "n"} <= set(frame.columns) and (frame["n"] > 0).any(), table
    assert pd.read_csv(tables / "headlines.csv")["sentence"].str.len().min() > 40


def test_every_selection_has_one_file_format(computed):
    files = sorted((computed.results / "neurons" / "smoke-gpt2").glob("*.parquet"))
    assert len(files) == 13
    for path in files:
        assert list(read_table(path).columns) == ["fact", "language", "draw", "layer", "index", "score", "selection"]
        metadata = read_metadata(path)
        assert metadata["selection"] == path.stem and len(metadata["facts"]) == 6


def test_controls_search_what_they_change_and_are_measured_on_the_real_prompts_of_the_same_facts(computed):
    results, keys = computed.results, ["selection", "language", "fact", "probe", "query", "operation"]
    real = read_table(results / "experiments" / "smoke-bert" / "manipulation.parquet").set_index(keys)["p_before"]
    first = list(read_table(results / "localisation" / "smoke-bert.parquet")["fact"])[:3]
    identities = []
    for control in ("shuffled_objects", "nonsense_subjects", "untrained"):
        folder = results / "controls" / control
        sets = read_metadata(folder / "neurons" / "smoke-bert" / "matrice.parquet")
        assert sorted(sets["facts"]) == sorted(first)
        identities.append(sets["model"])
        rows = read_table(folder / "experiments" / "smoke-bert" / "manipulation.parquet").set_index(keys)["p_before"]
        own = rows[rows.index.get_level_values("probe") == "own"]
        # the same queries of the same model, but for rounding in other batches; or of another one
        share = np.isclose(own, real[~real.index.duplicated()].reindex(own.index), rtol=1e-3, atol=0).mean()
        assert share < 0.1 if control == "untrained" else share == 1
    assert identities[0] == identities[1] != identities[2] and identities[2]["untrained_seed"] == "0"
    prompts = {name: read_table(path / "facts" / "prompts.parquet") for name, path in prompt_folders(results)}
    for control, same in (("shuffled_objects", "before"), ("nonsense_subjects", "answer")):
        both = prompts[control].merge(prompts["real"], on=["fact", "language", "kind", "template"])
        other = {"before": "answer", "answer": "before"}[same]
        assert (both[f"{same}_x"] == both[f"{same}_y"]).all() and (both[f"{other}_x"] != both[f"{other}_y"]).all()
    table = pd.read_csv(results / "tables" / "controls.csv")
    assert set(table["model"]) == {"smoke-bert"} and table["n"].max() == 3 and table["control"].nunique() == 3


def test_controls_trace_facts_that_count_in_the_real_trace_and_stand_in_the_figures_beside_it(computed):
    results, path = computed.results, "experiments/smoke-bert/causal_tracing.parquet"
    real = read_table(results / path)
    counted, traced = usable_facts(real, 0.01), {}
    for control in ("shuffled_objects", "nonsense_subjects", "untrained"):
        traced[control] = rows = read_table(results / "controls" / control / path)
        assert 0 < rows["fact"].nunique() <= len(counted) and set(rows["fact"]) <= set(counted)
        assert (rows["kind"] != "").all() and set(rows["model"]) == {"smoke-bert"}
    # the same sentences, but for the number of masks, with the same noise
    same = traced["shuffled_objects"].query("token_class != 'special'")
    both = same.merge(real, on=["fact", "kind", "position", "layer", "token", "noise"], suffixes=("", "_real"))
    assert len(both) == len(same)
    # of another object, which is less probable than the prediction
    alike = both[both["n_tokens"] == both["n_tokens_real"]]
    assert len(alike) > 0 and (alike["p_clean"] < alike["p_clean_real"]).all()
    assert set(traced["untrained"]["noise"]) != set(real["noise"]) and traced["untrained"]["p_clean"].max() < 0.1
    table = pd.read_csv(results / "tables" / "control_tracing.csv")
    effects = table[(table["statistic"] == "effect") & (table["control"] == "untrained")]
    assert effects["value"].abs().max() < 0.02 and (effects["n"] == traced["untrained"]["fact"].nunique()).any()
    for number in (3, 4, 6):
        drawn = pd.read_csv(results / "figures" / f"localization_figure{number}.csv", keep_default_na=False)
        assert set(drawn["control"]) == {"none", *traced}
        assert set(drawn.loc[drawn["control"] != "none", "model"]) == {"smoke-bert"}


def test_rows_of_tables_are_tested_in_the_tables_own_numbers_and_flips_stand_beside_changes(computed):
    tables = {path.stem: pd.read_csv(path) for path in (computed.results / "tables").glob("*.csv")}
    tests = tables["significance"].set_index("figure")
    shown = tables["localization_table3"].set_index(["model", "editor", "statistic"])["value"]
    for line in tests.loc["localization_table3"].itertuples():
        cells = [shown[line.model, editor, line.statistic] for editor in (line.selection, line.contrast)]
        assert line.value == pytest.approx(cells[0] - cells[1], abs=1e-3)
    injected = tables["matrice_table5"].query("language == 'all'")
    shown = injected.set_index(["model", "selection", "learning_rate", "statistic"])["value"]
    matched = tests.loc["matrice_table5"].query("contrast == 'random_layer_matched'")
    for line in matched.itertuples():
        cells = [shown[line.model, name, float(line.condition), line.statistic] for name in ("matrice", line.contrast)]
        assert line.value == pytest.approx(cells[0] - cells[1], abs=1e-3, nan_ok=True)
    assert matched["p"].notna().any() and set(tests.loc["amig_table2", "contrast"]) == {"mono", "seq"}
    for table in ("localization_table3", "matrice_table5", "amig_table2"):
        of_table = tests.loc[table]
        assert of_table["p"].dropna().between(0, 1).all() and (of_table["p_holm"].dropna() <= 1).all()
        n_tests = of_table.groupby("statistic")["p"].count()
        assert of_table.groupby("statistic")["n_tests"].first().to_dict() == n_tests.to_dict()
    assert tables["control_separation"][["flips", "control_flips"]].stack().between(0, 1).all()
    flips = tables["matrice_table2"].query("statistic in ['variant_flips', 'full_flips']")
    assert len(flips) and (flips["value"].isna() | flips["value"].between(0, 1)).all()


def prompt_folders(results):
    yield "real", results
    yield from ((name, results / "controls" / name) for name in ("shuffled_objects", "nonsense_subjects"))


def test_every_kept_file_has_its_provenance(computed):
    folders = ("facts", "known", "attribution", "scores", "neurons", "experiments", "controls", "tables", "figures")
    kept = [
        p
        for f in folders
        for p in (computed.results / f).rglob("*")
        if p.suffix in (".parquet", ".safetensors", ".csv")
    ]
    assert len(kept) > 60
    for path in kept:
        record = read_json(f"{path}.provenance.json")
        assert record["rule"] and record["seconds"] >= 0 and record["packages"]["numpy"]


def test_a_second_run_has_nothing_to_do(workflow):
    done = workflow.snakemake("--cores", "2", "all")
    assert done.returncode == 0 and "Nothing to be done" in done.stdout


def test_a_lost_shard_is_computed_again_with_what_hangs_on_it_and_nothing_else(workflow):
    shards = sorted((workflow.results / "attribution").rglob("*.safetensors"))
    lost = workflow.results / "attribution" / "smoke-gpt2" / "fr" / "1.safetensors"
    before = {path: (file_digest(path), path.stat().st_mtime_ns) for path in shards}
    lost.unlink()
    expected = {"attribute_shard": 1, "aggregate_scores": 1, "summarise_exactness": 1}
    expected |= {**FIDELITY, **DOWN_FROM_SELECTION}
    assert workflow.plan("all") == expected
    neurons = workflow.results / "neurons" / "smoke-gpt2" / "matrice.parquet"
    selected = file_digest(neurons)
    # the first jobs of this plan, really run
    ran = workflow.run(*(str(path.relative_to(workflow.folder)) for path in (lost, neurons)))
    assert ran == {"attribute_shard": 1, "aggregate_scores": 1, "select_neurons": 1}
    assert file_digest(lost) == before[lost][0] and file_digest(neurons) == selected
    assert {path: path.stat().st_mtime_ns for path in shards if path != lost} == {
        path: time for path, (_, time) in before.items() if path != lost
    }


def test_another_tau_reruns_selection_onwards_and_no_attribution(workflow):
    other = workflow.configure("other.yaml", {"selection.matrice": {"tau": 0.5}})
    assert workflow.plan("all", configfile=other) == of_all_models(DOWN_FROM_SELECTION) + PLANTED + CONTROLS


def test_an_edited_function_of_selection_reruns_selection_onwards(workflow):
    path = "knatlas/selection/thresholds.py"
    text = (workflow.folder / path).read_text()
    (workflow.folder / path).write_text(text + "\n\ndef another():\n    return 1\n")
    # these choose neurons by a threshold too, of queries that no selection knows
    others = {"attribute_punctuation": 3, "summarise_punctuation": 1, "edit_counterfact": 3, "summarise_counterfact": 1}
    # and the modules of scores know the thresholds
    rerun = of_all_models(DOWN_FROM_SELECTION) + PLANTED + CONTROLS + FIDELITY
    assert workflow.plan("all") == rerun + Counter(others)


def test_edited_comments_and_what_changes_only_speed_rerun_nothing(workflow):
    catalog = [f"catalog/{name}.yaml" for name in ("languages", "relations", "templates/en", "paper_results/amig")]
    for name in ("README.md", "knatlas/selection/thresholds.py", "knatlas/attribution/engine.py", *catalog):
        with (workflow.folder / name).open("a") as file:
            file.write("\n# a comment\n")
    # nor do languages that the study does not name
    workflow.edit("catalog/languages.yaml", 'cue: "Vastaus:"', 'cue: "Siis:"')
    workflow.edit("catalog/templates/fi.yaml", "P37:", "  - Pääkaupunki [X] on [Y]\nP37:")
    speed = {"compute.batch_rows": 16, "compute.batch_queries": 3, "compute.threads": 2}
    faster = workflow.configure("faster.yaml", speed)
    assert workflow.plan("all", configfile=faster) == Counter()


def test_a_stage_runs_by_its_name(workflow):
    assert workflow.plan("selection", "matrice") == Counter()
    (workflow.results / "figures" / "matrice_figure5.png").unlink()
    assert workflow.plan("figures") == workflow.plan("matrice") == Counter({"plot_manipulation": 1})
    assert workflow.plan("selection", "tables") == Counter()


@pytest.fixture(scope="module")
def reported(computed, tmp_path_factory) -> Workflow:
    """A copy of the computed study, with its report and its landing page."""
    folder = tmp_path_factory.mktemp("reported") / "copy"
    copied = Workflow(shutil.copytree(computed.folder, folder, copy_function=shutil.copy2))
    assert copied.run("report") == {"write_report": 1, "write_landing_page": 1}
    return copied


def test_the_landing_page_is_shown_by_a_browser_and_its_tables_sort(reported, tmp_path):
    need_browser()
    page = reported.results / "index.html"
    seen = look(page, tmp_path)
    assert seen.said == seen.found["wrong"] == seen.found["hidden"] == seen.found["loaded"] == []
    # tables of the page and of the evidence, whose figures stand in the page
    assert seen.found["tables"] > 10 and seen.found["columns"] > 50 and seen.found["pictures"] > 10
    assert broken_links(page, Reader(seen.elements)) == []
    assert seen.share > 0.02 and seen.colours > 50


def test_the_report_and_the_landing_page_are_written_and_all_claims_are_judged(reported):
    text = (reported.results / "report.html").read_text(encoding="utf-8")
    assert "matrice_figure5" in text and "bootstrap interval" in text
    page = reported.results / "index.html"
    read = Reader(page.read_text(encoding="utf-8"))
    assert read.wrong == [] and read.bare == [] and len(read.links) > 50 and broken_links(page, read) == []
    claims = pd.read_csv(reported.results / "tables" / "claims.csv")
    assert len(claims) > 30 and "not studied" not in set(claims["verdict"])


def test_an_empty_study_keeps_what_was_computed(workflow):
    before = {path: path.stat().st_mtime_ns for path in (workflow.results / "known").glob("*.parquet")}
    name = workflow.configure("empty.yaml", {"localisation.min_probability": 1.0})
    shown = refused(workflow, "--cores", "2", "attribution", configfile=name)
    assert "facts qualifies for smoke-" in shown and "lower one of them" in shown
    assert {path: path.stat().st_mtime_ns for path in before} == before and len(before) == 3


def test_an_answer_that_the_tokenizer_does_not_know_is_named(workflow):
    path = workflow.results / "facts" / "prompts.parquet"
    prompts = read_table(path)
    is_chosen = (prompts["language"] == "ko") & (prompts["kind"] == "masked")
    prompts.loc[prompts.index[is_chosen][0], "answer"] = "ↂↂ"
    write_table(prompts, path, read_metadata(path))
    # changed on purpose
    path.with_name(f"{path.name}.provenance.json").unlink()
    shown = refused(workflow, "--cores", "1", "results/smoke/known/smoke-bert.parquet", "--rerun-triggers", "mtime")
    assert "language ko" in shown and "'ↂↂ'" in shown
