"""The methods of a study as paragraphs, made from its configuration: equations, thresholds, quadrature, seeds, n."""

from collections.abc import Iterator, Mapping

from knatlas.attribution.methods import preset

EQUATIONS = {"default": "the recommended reading", "paper": "as printed", "code": "as the released code computes them"}
METHODS = {
    "bkn": "B-KN",
    "amig": "AMIG",
    "saig": "SAIG (of MATRICE)",
    "atp": "atp (one gradient per query)",
}
KEPT = {"all": "all neurons", "candidates": "the {candidates} strongest neurons of each fact"}
CHECKED = ", a few points per path with an estimated relative error of at most {rtol}, all points where it is larger"

# headings and paragraphs; in braces the keys of the configuration
FACTS = (
    "Facts come from {facts[source]}, in the languages {languages}, with at least {facts[min_queries]} queries "
    "each. Models: {models}, in {dtype}. Neurons are searched for {localisation[facts]} facts per model, those "
    "that it answers rightly in at least {localisation[known_languages]} languages, or in all that it knows."
)
SETS = (
    "Sets: {selection[selections]}. Thresholds as shares of the largest score: B-KN tau {selection[bkn][tau]}, "
    "AMIG tau {selection[amig][tau]}, MATRICE tau {selection[matrice][tau]}; refined neurons are in the coarse "
    "sets of more than a share {selection[refined][share]} of a fact's queries. MATRICE: alpha1 "
    "{selection[matrice][alpha1]}, alpha2 {selection[matrice][alpha2]}, beta1 {selection[matrice][beta1]}, beta2 "
    "{selection[matrice][beta2]}, Eq. 9 per {selection[matrice][eq9_axis]} with floor "
    "{selection[matrice][eq9_floor]}. Random controls: as many neurons as {selection[random][reference]} found, "
    "none of them found, drawn {selection[random][draws]} times, uniformly and with the same number in each "
    "layer."
)
MANIPULATION = (
    "Neurons are multiplied by {experiments[suppress_factor]} (suppression) or {experiments[enhance_factor]} "
    "(enhancement) at the {experiments[intervene_positions]} positions. Changes of P(answer) are relative to P "
    "before; queries with P before below {experiments[min_p_before]} are left out. Degenerate pairs: neither "
    "neuron alone lowers P by more than {experiments[degenerate][low]}, both together by more than "
    "{experiments[degenerate][high]} ({experiments[degenerate][kind]} drops), among the "
    "{experiments[degenerate][top]} strongest neurons of a fact. Fact-checking: "
    "{experiments[fact_checking][wrong_objects]} wrong objects per fact, {experiments[fact_checking][splits]} "
    "splits of the facts."
)
FIDELITY = (
    "Scores against effects, no threshold taken: in the first queries of {experiments[fidelity][facts]} facts (models: "
    "{experiments[fidelity][models]}; languages, by number or name: {experiments[fidelity][languages]}) neurons are "
    "ablated one at a time ({experiments[fidelity][ablations]}), every one in models of at most "
    "{experiments[fidelity][exhaustive_up_to]} neurons ({experiments[fidelity][exhaustive]}), else those among the "
    "{experiments[fidelity][top]} best of a method and {experiments[fidelity][sample]} others, weighted with the "
    "inverse of their chance to be drawn; and in sets of {experiments[fidelity][set_sizes]} in the order of each "
    "method's scores, of the same scores dealt out anew within layers, of random ones and of the true single effects."
)
NEGATIVE_CONTROLS = (
    "Neurons are also searched where there is nothing to find ({controls[kinds]}; models: {controls[models]}; "
    "{controls[facts]} facts of each): with the answer of another fact of the relation, with a made-up word in place "
    "of the subject, in an untrained copy of the model. Their suppression is measured on the real prompts, in the "
    "untrained copy itself; real and null are compared fact by fact, by sign flips with Holm's correction."
)
EDITING = (
    "Weights of the neurons are edited in {experiments[weight_edits][source_language]} "
    "({experiments[weight_edits][operations]}; lambda1 {experiments[weight_edits][lambda1]}, lambda2 "
    "{experiments[weight_edits][lambda2]}) and all languages are asked; {experiments[weight_edits][n_unrelated]} "
    "unrelated facts measure locality. Injection: {experiments[injection][epochs]} epochs, learning rates "
    "{experiments[injection][learning_rates][chosen]} for the chosen neurons, "
    "{experiments[injection][learning_rates][all]} for all parameters."
)
LOCALIZATION = (
    "In English: {experiments[context_gain][n_examples]} examples before a prompt; noise on word embeddings at "
    "the printed level and at {experiments[perturbation][relative]} of their mean size, "
    "{experiments[perturbation][n_draws]} draws; {experiments[punctuation][sentences]} sentences per punctuation "
    "mark and {experiments[punctuation][n_control]} of a control; causal tracing of "
    "{experiments[causal_tracing][facts]} facts, {experiments[causal_tracing][n_samples]} samples of noise; "
    "{experiments[counterfact][records]} counterfactual rewrites with the editors "
    "{experiments[counterfact][editors]}."
)
PLANTED = (
    "Facts are written into small networks of the kinds {planted[families]}, {planted[seeds]} of each, in the "
    "strengths {planted[strengths]}, so that the right neurons are known. A sanity check: planted neurons are "
    "linear and sparse, as attribution methods assume."
)
NOT_PLANTED = "This study plants no facts: whether the methods find what is there was not measured."
STATISTICS = (
    "Every number has n and a 95% percentile bootstrap interval over facts ({statistics[resamples]} resamples); "
    "facts with an empty set stay in the means. A claim holds where the interval lies wholly on the claimed side "
    "of its reference, does not hold where it lies wholly on the other, and is undecided otherwise; against a "
    "control the two intervals must not overlap; of claims about every language each one must hold. Verdicts are "
    "not corrected for their number. Study {study}, seed {seed}."
)


def methods_text(study: Mapping) -> list[tuple[str, str]]:
    """Pairs of a heading and a paragraph. Args: study, the configuration with all defaults filled in."""
    paragraphs = {"Facts and models": FACTS, "Neuron sets and controls": SETS, "Manipulation": MANIPULATION}
    paragraphs |= {"Editing and injection": EDITING, "Localization": LOCALIZATION}
    if study["experiments"]["fidelity"]["models"]:
        paragraphs |= {"Causal fidelity": FIDELITY}
    if study["controls"]["kinds"]:
        paragraphs |= {"Negative controls": NEGATIVE_CONTROLS}
    paragraphs |= {"Planted knowledge": PLANTED if study["planted"]["families"] else NOT_PLANTED}
    values = readable(study)
    texts = {heading: text.format_map(values) for heading, text in paragraphs.items()}
    attribution = ("Attribution", " ".join(_attribution(study["attribution"])))
    return [
        *list(texts.items())[:1],
        attribution,
        *list(texts.items())[1:],
        ("Statistics", STATISTICS.format_map(values)),
    ]


def _attribution(part: Mapping) -> Iterator[str]:
    """The sentences on attribution, each method with what its equations come to."""
    equations = part["equations"]
    yield "A neuron is a coordinate of the input of a feed-forward layer's second matrix."
    yield f"Equations: {equations} ({EQUATIONS[equations]})."
    for name in part["run"]:
        method = preset(name, equations)
        own = part["methods"].get(name, {})
        rule = f"{own.get('steps', method.steps)} points of the rule {own.get('rule', method.rule)}"
        choices = {key: own.get(key, getattr(method, key)) for key in ("path", "multiplier", "norm")}
        yield f"{METHODS[name]}: {', '.join(f'{key} {value}' for key, value in choices.items())}, {rule}."
    yield f"Quadrature: {part['quadrature']}{CHECKED.format_map(part) if part['quadrature'] == 'checked' else ''}."
    yield f"Kept: {KEPT[part['keep']].format_map(part)}."


def readable(value: object) -> object:
    """Lists as "a, b", thresholds by language as "0.2 (en 0.3)", mappings with readable values."""
    if isinstance(value, Mapping) and "default" in value:
        others = ", ".join(f"{name} {of}" for name, of in value.items() if name != "default")
        return f"{value['default']} ({others})" if others else str(value["default"])
    if isinstance(value, Mapping):
        return {name: readable(of) for name, of in value.items()}
    return ", ".join(map(str, value)) if isinstance(value, list) else value
