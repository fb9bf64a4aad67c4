"""What is wrong with a record of a file in CounterFact's form, in sentences."""

from collections.abc import Iterator, Sequence

SLOT = "{}"  # the subject's place in the prompt of a rewrite
REMEDY = "Mend or remove the record, or fetch the file again."
REWRITE_TEXTS = ["prompt", "relation_id", "subject"]
PROMPT_LISTS = ["paraphrase_prompts", "neighborhood_prompts"]


def record_mistakes(record: object, where: str) -> Iterator[str]:
    """A sentence for each mistake in one record, which `where` names: the field, its value and what is expected."""
    if not isinstance(record, dict):
        yield f"{where} is not an object; expected one with case_id, requested_rewrite and prompts. {REMEDY}"
        return
    if not isinstance(record.get("case_id"), int) or isinstance(record["case_id"], bool):
        yield f"{where}: case_id is {record.get('case_id')!r}; expected a whole number. {REMEDY}"
    rewrite = record.get("requested_rewrite")
    if isinstance(rewrite, dict):
        yield from _rewrite_mistakes(rewrite, f"{where}: requested_rewrite")
    else:
        yield f"{where}: requested_rewrite is {rewrite!r}; expected an object with prompt, subject, targets. {REMEDY}"
    for name in PROMPT_LISTS:
        texts = record.get(name)
        if not isinstance(texts, list) or not all(isinstance(text, str) and text.strip() for text in texts):
            yield f"{where}: {name} is {str(texts)[:60]!r}; expected a list of texts, none of them empty. {REMEDY}"


def _rewrite_mistakes(rewrite: dict, where: str) -> Iterator[str]:
    texts = {name: rewrite.get(name) for name in REWRITE_TEXTS}
    targets = {name: rewrite.get(name) for name in ("target_true", "target_new")}
    labels = {name: target.get("str") if isinstance(target, dict) else None for name, target in targets.items()}
    texts |= {f"{name}.str": label for name, label in labels.items()}
    for name, text in texts.items():
        if not isinstance(text, str) or not text.strip():
            yield f"{where}: {name} is {text!r}; expected a text that is not empty. {REMEDY}"
        elif name not in ("prompt", "relation_id") and text != text.strip():
            yield f"{where}: {name} is '{text}'; expected a text without blanks around it. {REMEDY}"
    if isinstance(texts["prompt"], str) and texts["prompt"].count(SLOT) != 1:
        yield f"{where}: prompt '{texts['prompt']}' has {SLOT} {texts['prompt'].count(SLOT)} times; expected it once."
    if labels["target_true"] and labels["target_true"] == labels["target_new"]:
        yield f"{where}: target_new is '{labels['target_new']}', the true target; expected another object. {REMEDY}"


def repeated_cases(cases: Sequence[int], places: Sequence[str]) -> list[str]:
    """A sentence for each record whose case_id an earlier one has; places name the records."""
    first = dict(reversed(list(zip(cases, places, strict=True))))
    return [
        f"{place}: case_id {case} is that of {first[case].rpartition(', ')[2]}; expected each once. {REMEDY}"
        for case, place in zip(cases, places, strict=True)
        if first[case] != place
    ]
