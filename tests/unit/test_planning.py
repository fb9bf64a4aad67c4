"""Plans: what is expected before a run, what is counted after, and how both compare."""

import copy
import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from knatlas.attribution.combination import Dense
from knatlas.attribution.cost import QuerySize, attribution_flops
from knatlas.attribution.footprint import n_parameters
from knatlas.attribution.methods import preset
from knatlas.catalog import read_catalog
from knatlas.errors import AtlasError
from knatlas.facts.table import PROMPT_COLUMNS
from knatlas.planning.comparison import job_records, plan_error
from knatlas.planning.known import known_files
from knatlas.planning.plan import ADDED, plan_study
from knatlas.planning.rates import Rates
from knatlas.planning.requests import job_request
from knatlas.planning.shapes import catalog_shape, guessed_shape, model_shape
from knatlas.planning.shards import shard_counts
from knatlas.planning.workload import Queries, workload
from knatlas.storage import write_json, write_table
from knatlas.study import all_models, languages_of, localized_models, read_study
from knatlas.study.controls import control_shards, controlled_models

STUDIES = ["config.yaml", *(f"studies/{name}.yaml" for name in ("papers", "amig", "matrice", "localization", "smoke"))]
MINIMAL = {"study": "plan", "languages": ["en", "zh"], "models": ["gpt2"], "facts": {"source": "mpararel"}}

LOCALIZATION = ["context_gain", "perturbation", "answer_case", "punctuation", "causal_tracing", "key_statistics"]
LOCALIZATION += ["counterfact"]
CONTROL_STAGES = ["control_attribution", "control_aggregate", "control_selection", "control_manipulation"]
LOCALIZED_CONTROL_STAGES = [*CONTROL_STAGES, "control_causal_tracing"]
BKN_ALONE, MATRICE_ALONE = {"selections": ["bkn"]}, {"selections": ["matrice"]}


def study_of(**changes):
    return read_study(MINIMAL | changes)


def stage_of(plan, stage, model="gpt2"):
    (found,) = [row for row in plan.stages if (row.model, row.stage) == (model, stage)]
    return found


def prompts(n_facts, n_queries, languages=("en", "zh"), kinds=("causal", "masked")):
    rows = [
        (f"P36:{fact}>x", "P36", language, kind, query, query, "final", "one two three four", " ", f"a{fact}", "")
        for fact in range(n_facts)
        for language in languages
        for kind in kinds
        for query in range(n_queries)
    ]
    return pd.DataFrame(rows, columns=PROMPT_COLUMNS)


# plans of the studies that come with the project


@pytest.mark.parametrize("path", STUDIES)
def test_every_study_can_be_planned_before_anything_is_there(root, tmp_path, path):
    study = read_study(yaml.safe_load((root / path).read_text(encoding="utf-8")))
    plan = plan_study(study, tmp_path / "nothing")
    stages = ["measure_known", "attribution", "aggregate", "selection", "manipulation"]
    has_amig = "amig" in study["selection"]["selections"]
    for model in study["models"]:
        first = "train" if all_models(study)[model]["origin"] == "embedded" else "resolve"
        across = ["crosslingual"] if has_amig and len(languages_of(study, model)) > 1 else []
        of_amig = [*across, "degenerate", "fact_checking"] if has_amig else []
        has_matrice = "matrice" in study["selection"]["selections"] and len(languages_of(study, model)) > 1
        of_matrice = ["weight_edits", "enhancement", "injection", "sweeps"] if has_matrice else []
        is_localized = {"bkn", "refined"} <= set(study["selection"]["selections"]) and model in localized_models(study)
        has_rome = is_localized or (has_matrice and study["experiments"]["weight_edits"]["reference_editors"])
        of_localization = [name for name in LOCALIZATION if is_localized or name == "key_statistics"]
        is_edited = has_rome and all_models(study)[model]["kind"] == "causal"
        of_localization = [name for name in of_localization if is_edited or name != "key_statistics"]
        planned = [row.stage for row in plan.stages if row.model == model]
        stages_of_control = LOCALIZED_CONTROL_STAGES if is_localized else CONTROL_STAGES
        of_controls = stages_of_control if model in controlled_models(study) else []
        ablated = study["experiments"]["fidelity"]["models"]
        of_fidelity = ["fidelity"] if ablated == "all" or model in ablated else []
        assert planned == [first, *stages, *of_amig, *of_matrice, *of_fidelity, *of_localization, *of_controls]
    numbers = plan.table.drop(columns=["model", "stage"])
    assert (numbers >= 0).all(axis=None) and numbers.notna().all(axis=None)
    assert list(tmp_path.iterdir()) == []


def test_a_plan_needs_no_network_and_no_torch(root):
    code = (
        "import sys, socket, yaml, pathlib; socket.socket.connect = None;"
        "from knatlas.planning.plan import plan_study; from knatlas.study import read_study;"
        "study = read_study(yaml.safe_load(open('studies/papers.yaml')));"
        "plan_study(study, pathlib.Path('results/papers')); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=root).returncode == 0


def test_totals_are_sums_and_the_largest_memory(tmp_path):
    plan = plan_study(study_of(models=["gpt2", "mbert"]), tmp_path)
    parts, total = plan.table.iloc[:-1], plan.table.iloc[-1]
    assert total["model"] == "total"
    assert total[ADDED].to_list() == pytest.approx(parts[ADDED].sum().to_list())
    assert total["gpu_memory_gb"] == parts["gpu_memory_gb"].max()


def test_the_text_says_which_rates_are_assumptions(tmp_path):
    text = plan_study(study_of(compute={"device": "cuda", "gpus": 1}), tmp_path).text("plan")
    assert "- ASSUMED: attribution on gpu" in text
    assert "- measured: seconds_per_table_job on cpu" in text
    assert "expected from catalog/sizes.yaml, source mpararel (9,758 facts)" in text


# experiments


def planned_rows(stage, **changes):
    """Sentences of a stage, told by what is kept of each."""
    study = study_of(models=["mbert"], localisation={"facts": 10}, **changes)
    (found,) = [row for row in plan_study(study, Path("nothing")).stages if row.stage == stage]
    return found.kept_gb * 1e9 / 9


def test_editing_across_a_pair_asks_three_probes_of_four_edits_and_two_operations_in_both_languages():
    pairs = {"crosslingual": {"pairs": [["en", "zh"]]}}
    # likn, both, and the two languages' own sets
    assert planned_rows("crosslingual", experiments=pairs) == pytest.approx(10 * 2 * 3 * (1 + 2 * 4))


def test_the_search_for_degenerate_neurons_takes_at_most_all_singles_and_pairs_of_found_and_random_ones():
    found = planned_rows("degenerate", experiments={"degenerate": {"top": 20}})
    n_languages = len(study_of(models=["mbert"])["languages"])
    assert found == pytest.approx(10 * n_languages * (1 + 2 * (20 + 190)))


def test_fact_checking_costs_more_with_more_wrong_objects_in_proportion():
    def flops(n):
        study = study_of(models=["mbert"], experiments={"fact_checking": {"wrong_objects": n}})
        (found,) = [row for row in plan_study(study, Path("nothing")).stages if row.stage == "fact_checking"]
        return found.flops

    assert flops(5) / flops(1) == pytest.approx(3)


def test_ranked_answers_of_weight_edits_cost_the_objects_of_the_relation_too():
    plain, ranked = (
        planned_rows("weight_edits", experiments={"weight_edits": {"is_ranked": is_ranked}})
        for is_ranked in (False, True)
    )
    work = workload(study_of(models=["mbert"]), Path("nothing"))
    assert ranked / plain == pytest.approx(1 + work.ranked_rows)


def test_neurons_are_ablated_one_at_a_time_in_a_sample_or_all_and_in_sets_of_every_order_and_size():
    def flops(**settings):
        study = study_of(models=["mbert"], localisation={"facts": 10}, experiments={"fidelity": settings})
        (found,) = [row for row in plan_study(study, Path("nothing")).stages if row.stage == "fidelity"]
        return found.flops

    sets = {"set_sizes": [1, 2], "draws": 1, "mean_prompts": 2, "top": 1, "sample": 997}
    # three methods; of each a control, random order and the true one; before, and neurons whose values are taken
    zero = 10 * (1 + (3 + 997) + 2 * (3 + 4 + 1)) + 2 + 20
    assert flops(**sets, ablations=["zero"], exhaustive=[]) / zero == pytest.approx(
        flops(**sets, ablations=["zero"], exhaustive=["zero"], exhaustive_up_to=40000)
        / (zero + 10 * (12 * 3072 - 1000))
    )
    assert "fidelity" not in [
        row.stage for row in plan_study(study_of(experiments={"fidelity": {"models": []}}), Path("nothing")).stages
    ]


def test_controls_cost_what_they_repeat_once_per_control_in_the_models_that_are_controlled():
    def stage(name, **controls):
        study = study_of(models=["mbert"], localisation={"facts": 40}, attribution={"shards": 4}, controls=controls)
        return next((row for row in plan_study(study, Path("nothing")).stages if row.stage == name), None)

    one = stage("control_attribution", kinds=["untrained"], facts=None)
    real, three = (
        stage("attribution"),
        stage("control_attribution", kinds=["shuffled_objects", "nonsense_subjects", "untrained"], facts=10),
    )
    assert (one.flops, one.jobs, one.memory_gb) == (real.flops, real.jobs, real.memory_gb)
    assert three.jobs == 3 * real.jobs / 4 and three.flops == pytest.approx(3 / 4 * real.flops)
    # no draws of random neurons
    manipulated, few = stage("manipulation"), stage("control_manipulation", kinds=["untrained"], facts=40)
    assert few.flops < manipulated.flops and stage("control_manipulation") is None


@pytest.mark.parametrize(
    ("n_shards", "facts", "expected"), [(8, 10, 2), (8, 1, 1), (8, 100, 8), (8, None, 8), (1, 5, 1)]
)
def test_shards_of_a_control_hold_about_as_many_facts_as_real_ones(n_shards, facts, expected):
    study = study_of(localisation={"facts": 40}, controls={"facts": facts})
    assert control_shards(study, n_shards) == expected


def test_injection_needs_the_memory_of_its_fine_tuning_which_direct_training_leads():
    def memory(**settings):
        study = study_of(models=["mbert"], experiments={"injection": settings})
        (found,) = [row for row in plan_study(study, Path("nothing")).stages if row.stage == "injection"]
        return found.memory_gb

    record = read_catalog("models")["mbert"]
    parameters = n_parameters(catalog_shape(record["shape"], record["kind"])) * 4 / 1e9
    # weights, their copy, gradients and two moments, and what a step of AdamW takes for the vocabulary
    assert memory() > 5 * parameters > memory(has_direct=False) > 2 * parameters
    assert memory() > memory(checkpointing=True) > memory(checkpointing=True, batch=1)


def english_flops(stage, **changes):
    """Operations of a stage of the localization paper, on GPT-2 with context-PARAREL."""
    english = {"languages": ["en"], "facts": {"source": "context_pararel", "min_queries": 3}}
    return stage_of(plan_study(study_of(**english, **changes), Path("nothing")), stage).flops


def test_tracing_costs_a_pass_per_token_layer_kind_and_draw_of_the_noise():
    def flops(**settings):
        return english_flops("causal_tracing", experiments={"causal_tracing": {"facts": 100, **settings}})

    assert flops(n_samples=20) / flops(n_samples=10) == pytest.approx(2, rel=0.01)
    assert flops() / flops(kinds=["mlp"]) == pytest.approx(3, rel=0.01)


def test_tracing_under_controls_costs_the_real_trace_of_their_facts_once_per_control():
    tracing = {"causal_tracing": {"facts": 100}}
    kinds = ["shuffled_objects", "nonsense_subjects", "untrained"]
    real = english_flops("causal_tracing", experiments=tracing)
    for facts, share in ((None, 1), (10, 0.1), (500, 1)):
        null = english_flops(
            "control_causal_tracing", experiments=tracing, controls={"kinds": kinds, "facts": facts, "models": "all"}
        )
        assert null == pytest.approx(3 * share * real)


def test_contexts_lengthen_queries_but_not_those_of_other_data_sets():
    def flops(stage, source, context):
        settings = {"causal_tracing": {"source": source}, "localization": {"models": ["gpt2"]}}
        return english_flops(stage, experiments=settings, prompts={"context": context})

    # answers and what tokenizers add stay as long as they are
    assert 4 < flops("measure_known", "facts", 4) / flops("measure_known", "facts", 0) < 5.5
    # but for whole numbers of tokens, of which a query has eight
    for stage, source in (("causal_tracing", "known_1000"), ("context_gain", "facts")):
        assert flops(stage, source, 4) == pytest.approx(flops(stage, source, 0), rel=1 / 8)


def test_rome_costs_its_templates_at_every_step_and_is_left_out_for_masked_models():
    def flops(editors, **rome):
        return english_flops(
            "counterfact", experiments={"counterfact": {"records": 10, "editors": editors}, "rome": rome}
        )

    others, rome = flops(["kn_e"]), flops(["kn_e", "rome"])
    assert flops(["kn_e", "rome"], steps=40) - others > 1.5 * (rome - others)
    masked = study_of(languages=["en"], models=["bert-uncased"], facts={"source": "context_pararel", "min_queries": 3})
    stages = [row.stage for row in plan_study(masked, Path("nothing")).stages]
    assert "counterfact" in stages and "key_statistics" not in stages


def test_a_study_without_amigs_neurons_plans_none_of_its_experiments(tmp_path):
    selection = {"selections": ["bkn", "random"], "random": {"reference": "bkn"}}
    plan = plan_study(study_of(selection=selection), tmp_path)
    assert not {"crosslingual", "degenerate", "fact_checking"} & {row.stage for row in plan.stages}


# workload


def test_expected_counts_are_those_of_the_row_with_the_studys_languages():
    study = study_of(facts={"source": "mpararel", "min_queries": 1})
    work = workload(study, Path("nothing"))
    row = read_catalog("sizes")["sources"]["mpararel"][1]
    assert row["languages"] == ["en", "zh"]
    assert work.n_facts == sum(n for n, _ in row["facts"].values()) == 9758
    assert "nearest" not in work.sentence


def test_other_languages_take_the_nearest_row_and_say_so(tmp_path):
    work = workload(study_of(languages=["fr", "fi"], models=["mbert"]), tmp_path)
    assert work.n_facts == 5904
    assert "the nearest counts are for en fr zh fi hu ja ko and min_queries 2" in work.sentence


def test_a_cap_per_relation_bounds_facts_and_objects(tmp_path):
    facts = {"source": "cldr", "facts_per_relation": 30, "relations": ["P36", "P30"]}
    work = workload(study_of(facts=facts, models=["tiny-gpt2"]), tmp_path)
    assert work.n_facts == 60
    assert work.ranked_rows == (30 * 30 + 30 * 5) / 60  # five continents


def test_prompts_that_are_there_are_counted(tmp_path):
    write_table(prompts(6, 3), tmp_path / "facts" / "prompts.parquet")
    work = workload(study_of(), tmp_path)
    assert (work.n_facts, work.ranked_rows) == (6, 6)
    assert work.counts["causal"]["zh"] == (3, 4, 19, 2)  # queries, words, characters with separator, of the answer
    assert workload(study_of(), tmp_path, is_counted=False).n_facts == 9758


def test_sizes_of_queries_have_the_means_of_the_queries():
    sizes = Queries("causal", 3, 7.25, 1.5).sizes()
    assert sum(share for _, share in sizes) == pytest.approx(1)
    assert sum(share * size.n_own for size, share in sizes) == pytest.approx(7.25)
    assert sum(share * size.n_positions for size, share in sizes) == pytest.approx(1.5)
    # one token in front of a causal sentence, and all answer tokens but the last
    assert all(size.n_tokens == size.n_own + size.n_positions for size, _ in sizes)


def test_a_masked_sentence_has_its_masks_and_both_ends():
    ((size, share),) = Queries("masked", 3, 7, 2).sizes()
    assert (size, share) == (QuerySize(11, 2, 7), 1.0)


# shapes


def test_every_hub_model_of_the_catalog_has_a_shape_of_its_size():
    hub = {name: row for name, row in read_catalog("models").items() if row["origin"] == "hub"}
    for name, row in hub.items():
        shape = catalog_shape(row["shape"], row["kind"])
        assert n_parameters(shape) / 1e6 == pytest.approx(row["parameters_millions"], rel=0.04), name
        assert shape.n_layers * shape.neurons == row["neurons"]


def test_a_model_of_unknown_shape_is_taken_as_a_plain_one_of_its_size(tmp_path):
    shape, sentence = model_shape({"kind": "causal", "origin": "hub", "parameters_millions": 1000}, tmp_path, "own")
    assert n_parameters(shape) == pytest.approx(1e9, rel=0.15) and shape == guessed_shape("causal", 1e9)
    assert sentence == "own: only its size is known, 1000 million parameters; taken as a plain model of that size"


def test_the_configuration_in_a_models_folder_counts_before_the_catalog(tmp_path):
    folder = tmp_path / "weights"
    config = {"model_type": "gpt2", "n_layer": 2, "n_embd": 8, "n_head": 2, "vocab_size": 11}
    write_json(config, folder / "config.json")
    record = {"kind": "causal", "origin": "folder", "folder": str(folder)}
    assert model_shape(record, tmp_path, "own")[0] == catalog_shape(
        {"layers": 2, "hidden": 8, "neurons": 32, "vocabulary": 11, "heads": 2}, "causal"
    )


def test_a_shape_with_a_missing_or_unknown_key_is_refused():
    with pytest.raises(AtlasError, match=r"missing keys \['heads'\], unknown keys \['head'\]"):
        catalog_shape({"layers": 2, "hidden": 8, "neurons": 32, "vocabulary": 11, "head": 2}, "causal")


# stages


def test_attribution_has_the_operations_of_its_queries(tmp_path):
    write_table(prompts(6, 3), tmp_path / "facts" / "prompts.parquet")
    study = study_of(attribution={"run": ["bkn"], "completeness": False}, selection=BKN_ALONE)
    shape = catalog_shape(read_catalog("models")["gpt2"]["shape"], "causal")
    # 19 characters in English, only: GPT-2 is studied in no other language; four characters per token, answer of one
    sizes = {QuerySize(5, 1, 4): 0.25, QuerySize(6, 1, 5): 0.75}
    flops = sum(share * attribution_flops(shape, size, [preset("bkn")]).total for size, share in sizes.items())
    assert stage_of(plan_study(study, tmp_path), "attribution").flops == pytest.approx(6 * 3 * flops)


def test_full_rml_lama_takes_the_hours_of_the_prototype():
    # hours of 171,741 queries of 16 tokens, path per token, at 316 TFLOP/s, exact and with five points per path
    expected = {"mbert": (1.3, 0.3), "mgpt": (3.5, 1.0), "llama-2-7b": (19.5, 5.4), "llama-3-8b": (23.3, 6.4)}
    rate = Rates("gpu", "float16")("attribution")
    for name, hours in expected.items():
        row = read_catalog("models")[name]
        shape, is_masked = catalog_shape(row["shape"], row["kind"]), row["kind"] == "masked"
        size = QuerySize(16, 1, 16 - is_masked)
        found = [
            171_741 * attribution_flops(shape, size, [preset("saig")], points).total / rate / 3600
            for points in (None, lambda method: 5)
        ]
        assert found == pytest.approx(hours, rel=0.06, abs=0.06), name


def test_checked_quadrature_makes_a_plan_cheaper_and_counted_points_take_the_place_of_the_expected(tmp_path):
    settings = {"run": ["saig"], "completeness": False}
    full = study_of(attribution=settings, selection=MATRICE_ALONE)
    checked = study_of(attribution=settings | {"quadrature": "checked"}, selection=MATRICE_ALONE)
    fewer, all_points = (stage_of(plan_study(study, tmp_path), "attribution").flops for study in (checked, full))
    assert 4.7 / 19 < fewer / all_points < 0.35
    write_table(pd.DataFrame({"n_points": [19], "n_full_points": [38]}), tmp_path / "scores" / "gpt2.queries.parquet")
    plan = plan_study(checked, tmp_path)
    assert 0.5 < stage_of(plan, "attribution").flops / all_points < 0.55
    assert "gpt2: quadrature checked took 0.500 of the rule's points, counted" in plan.assumptions


def test_disk_is_that_of_the_arrays_that_shards_keep(tmp_path):
    study = study_of(models=["mbert"], localisation={"facts": 100})
    dense = stage_of(plan_study(study, tmp_path), "aggregate", "mbert")
    arrays = Dense("en").layout(["bkn", "amig", "saig"], 12, 3072)
    assert dense.kept_gb * 1e9 == 100 * 2 * len(arrays) * 4 * 36864
    study["attribution"] |= {"keep": "candidates", "candidates": 16384}
    kept = stage_of(plan_study(study, tmp_path), "aggregate", "mbert").kept_gb
    # six arrays in two languages and one of the neurons' numbers; what is known of the others is small
    assert kept * 1e9 == pytest.approx(100 * 4 * 16384 * (6 * 2 + 1), rel=0.01)


def test_jobs_are_per_language_or_of_candidates_for_all(tmp_path):
    study = study_of(models=["mbert"], attribution={"shards": 4})
    assert stage_of(plan_study(study, tmp_path), "attribution", "mbert").jobs == 8
    study["attribution"]["keep"] = "candidates"
    assert stage_of(plan_study(study, tmp_path), "attribution", "mbert").jobs == 4


# requests and shards


def test_a_job_asks_for_twice_its_planned_time_and_its_memory_with_room(tmp_path):
    plan = plan_study(study_of(models=["llama-2-7b"], compute={"device": "cuda", "gpus": 1}), tmp_path)
    stage = stage_of(plan, "fact_checking", "llama-2-7b")
    minutes = 15 + 2 * (stage.seconds + stage.start_seconds) / 60
    megabytes = 2000 + 1250 * stage.memory_gb
    asked = job_request(stage)
    assert minutes <= asked["job_minutes"] < minutes + 5 and asked["job_minutes"] % 5 == 0
    assert megabytes <= asked["job_mb"] < megabytes + 100 and asked["job_mb"] % 100 == 0
    (row,) = plan.table[plan.table["stage"] == "fact_checking"].itertuples()
    assert {"job_mb": row.job_mb, "job_minutes": row.job_minutes} == asked


def test_slower_devices_get_more_time_and_nothing_else_changes(tmp_path):
    plans = [plan_study(study_of(compute={"time_factor": factor}), tmp_path).table for factor in (1, 3)]
    one, three = (plan.loc[plan["stage"] == "attribution", "job_minutes"].item() - 15 for plan in plans)
    assert 3 * one - 15 <= three <= 3 * one + 5 and three > one
    pd.testing.assert_frame_equal(*(plan.drop(columns="job_minutes") for plan in plans))


@pytest.mark.parametrize("keep", ["all", "candidates"])
def test_automatic_shards_take_the_minutes_that_a_study_gives_them_on_a_gpu(tmp_path, keep):
    attribution = {"shards": "auto", "shard_minutes": 10, "keep": keep}
    study = study_of(models=["gpt2", "llama-2-7b"], attribution=attribution, compute={"device": "cuda", "gpus": 1})
    counts, plan = shard_counts(study), plan_study(study, tmp_path)
    assert counts["gpt2"] < counts["llama-2-7b"]
    for model, n in counts.items():
        stage = stage_of(plan, "attribution", model)
        groups = 1 if keep == "candidates" else len(languages_of(study, model))
        assert n > 1 and stage.jobs == n * groups
        assert stage.seconds / (n * groups) <= 600 < stage.seconds / ((n - 1) * groups)


def test_requests_do_not_change_while_a_study_runs(tmp_path):
    study = study_of()
    before = plan_study(study, tmp_path).table[["model", "stage", "job_mb", "job_minutes"]]
    write_table(prompts(4, 1), tmp_path / "facts" / "prompts.parquet")
    after = plan_study(study, tmp_path)
    assert stage_of(after, "attribution").seconds < stage_of(plan_study(study, tmp_path, False), "attribution").seconds
    pd.testing.assert_frame_equal(after.table[["model", "stage", "job_mb", "job_minutes"]], before)


def test_automatic_shards_depend_neither_on_the_machine_nor_on_what_is_computed(tmp_path):
    study = study_of(models=["llama-2-7b"], attribution={"shards": "auto", "shard_minutes": 2})
    before = shard_counts(study)
    write_table(prompts(4, 1), tmp_path / "facts" / "prompts.parquet")
    assert stage_of(plan_study(study, tmp_path), "attribution", "llama-2-7b").jobs == 2 * before["llama-2-7b"]
    assert shard_counts(study_of(**{**study, "compute": {"device": "cuda", "gpus": 1}})) == before


def test_a_shard_holds_at_least_one_fact():
    study = study_of(models=["llama-2-7b"], attribution={"shards": "auto", "shard_minutes": 1e-9})
    study["localisation"]["facts"] = 7
    assert shard_counts(study) == {"llama-2-7b": 7}


def test_gpu_memory_is_weights_and_the_rows_of_a_sweep(tmp_path):
    compute = {"device": "cuda", "gpus": 1, "batch_rows": 100}
    stage = stage_of(plan_study(study_of(compute=compute), tmp_path), "attribution")
    weights = 4 * n_parameters(catalog_shape(read_catalog("models")["gpt2"]["shape"], "causal"))
    # a row keeps 10 x 768 + 2 x 3072 numbers in half of twelve layers
    assert stage.gpu_gb * 1e9 == pytest.approx(weights + 100 * 4 * (10 * 768 + 2 * 3072) * 6)
    assert stage_of(plan_study(study_of(), tmp_path), "attribution").gpu_gb == 0


def test_hours_count_the_starts_of_jobs(tmp_path):
    few, many = (study_of(attribution={"shards": n}) for n in (1, 5))
    one, five = (stage_of(plan_study(study, tmp_path), "attribution") for study in (few, many))
    assert five.start_seconds == pytest.approx(5 * one.start_seconds) and five.seconds == one.seconds


def test_a_rate_without_a_row_for_the_dtype_is_named():
    table = copy.deepcopy(read_catalog("rates"))
    del table["gpu"]["rates"]["attribution"]["float64"]
    with pytest.raises(AtlasError, match=r"gpu.rates.attribution has no row for float64"):
        Rates("gpu", "float64", table)("attribution")
    with pytest.raises(AtlasError, match="The device of a plan is 'tpu'"):
        Rates("tpu", "float32")


def test_every_rate_says_whether_and_how_it_was_measured():
    table = read_catalog("rates")
    rows = list(table["checked_points"].values())
    rows += [row for device in ("cpu", "gpu") for rate in table[device]["rates"].values() for row in rate.values()]
    assert len(rows) > 25
    assert all(isinstance(row["measured"], bool) and row["how"] and float(row["value"]) > 0 for row in rows)


def test_a_plan_is_old_when_what_it_reads_changes(tmp_path):
    assert known_files(study_of(), tmp_path) == []
    write_table(prompts(6, 3), tmp_path / "facts" / "prompts.parquet")
    first = known_files(study_of(), tmp_path)
    write_table(prompts(6, 4), tmp_path / "facts" / "prompts.parquet")
    assert first[0][0] == "facts/prompts.parquet" and known_files(study_of(), tmp_path) != first


# against a run


def record(path, rule, seconds, memory_mb, cpu=None, **wildcards):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(1000))
    content = {"rule": rule, "wildcards": wildcards, "seconds": seconds, "peak_memory_mb": memory_mb}
    content |= {} if cpu is None else {"cpu_seconds": cpu}
    path.with_name(f"{path.name}.provenance.json").write_text(json.dumps(content))


def test_a_job_with_several_outputs_is_one_job(tmp_path):
    for language in ("en", "zh"):
        for name in ("0.safetensors", "0.queries.parquet"):
            path = tmp_path / "attribution" / "gpt2" / language / name
            record(path, "attribute_shard", 7.0, 500, model="gpt2", language=language, shard="0")
    jobs = job_records(tmp_path)
    assert jobs["seconds"].to_list() == [7.0, 7.0]
    assert jobs["disk_gb"].to_list() == pytest.approx([2e-6, 2e-6])


def test_planned_and_measured_stand_side_by_side(tmp_path):
    record(tmp_path / "known" / "gpt2.parquet", "measure_known", 50.0, 1000, model="gpt2")
    record(tmp_path / "attribution" / "a.safetensors", "attribute_shard", 30.0, 2000, 9.0, model="gpt2", shard="0")
    record(tmp_path / "attribution" / "b.safetensors", "attribute_shard", 10.0, 3000, 7.0, model="gpt2", shard="1")
    table = plan_error(study_of(), tmp_path).set_index(["model", "stage"])
    planned = plan_study(study_of(), tmp_path, is_counted=False)
    row = table.loc[("gpt2", "attribution")]
    assert (row["jobs"], row["measured_seconds"]) == (2, 40.0)
    assert row["measured_memory_gb"] == pytest.approx(3000 * 2**20 / 1e9)
    assert row["seconds_ratio"] == pytest.approx(stage_of(planned, "attribution").seconds / 40.0)
    assert (row["cpu_seconds"], row["cpu_ratio"]) == (16.0, pytest.approx(row["planned_seconds"] / 16.0))
    assert table.loc[("total", "all"), "measured_seconds"] == 90.0
    assert pd.isna(table.loc[("total", "all"), "cpu_seconds"])  # one job has not recorded it
    assert ("gpt2", "manipulation") not in table.index


def test_a_study_that_has_not_run_has_no_error(tmp_path):
    with pytest.raises(AtlasError, match="holds no record of a finished job"):
        plan_error(study_of(), tmp_path)
