"""Counterfactual rewrites of facts in CounterFact's JSON: read and checked, or made from a study's own facts."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from knatlas.errors import AtlasError, unknown
from knatlas.facts.counterfact_checks import SLOT, record_mistakes, repeated_cases
from knatlas.facts.json_lines import read_json_list
from knatlas.facts.prompts import is_final, is_subject_first
from knatlas.facts.sampling import rank

N_NEIGHBOURS = 10  # neighbourhood prompts of a CounterFact record
MAX_SENTENCES = 10
KNOWN_BY = ("all", "any", "none")  # models of which a fact may be asked


@dataclass(frozen=True)
class CounterfactRecord:
    """One fact, the object that shall replace its own, and the prompts on which that is measured.

    case, number in the file; fact, its identity as text (the case's number where the file has none); prompt, with one
    `{}` for the subject, ends where the object comes; paraphrases and neighbours (prompts about other subjects with the
    object target_true), whole texts that end there. Targets have no blank around them.
    """

    case: int
    fact: str
    relation: str
    prompt: str
    subject: str
    target_true: str
    target_new: str
    paraphrases: tuple[str, ...]
    neighbours: tuple[str, ...]
    true_id: str = ""
    new_id: str = ""

    @property
    def rewrite(self) -> str:
        """The rewrite's prompt with the subject."""
        return self.prompt.replace(SLOT, self.subject)

    @property
    def prompts(self) -> list[tuple[str, int, str]]:
        """Kind (rewrite, paraphrase, neighborhood), number within the kind and text of every prompt."""
        kinds = {"rewrite": [self.rewrite], "paraphrase": self.paraphrases, "neighborhood": self.neighbours}
        return [(kind, number, text) for kind, texts in kinds.items() for number, text in enumerate(texts)]


def read_counterfact(path: str | Path, n: int | None = None) -> list[CounterfactRecord]:
    """The first n records of a file in CounterFact's form, in its order; all where n is None or there are fewer.

    Raises: AtlasError for a file that is no list of records, or with a sentence for each mistake (record, field and
    what is expected) in these n records, at most ten of them; for none at all, or an n below 1.
    """
    if n is not None and n < 1:
        raise AtlasError(f"counterfact: records is {n}; expected a whole number of at least 1")
    content = read_json_list(Path(path), "CounterFact")[:n]
    places = [f"{path}, record {number}" for number in range(1, len(content) + 1)]
    wrong = [sentence for pair in zip(content, places, strict=True) for sentence in record_mistakes(*pair)]
    if not wrong:
        wrong = repeated_cases([record["case_id"] for record in content], places)
    if wrong:
        more = [f"... and {len(wrong) - MAX_SENTENCES} more."] if len(wrong) > MAX_SENTENCES else []
        raise AtlasError("\n".join(wrong[:MAX_SENTENCES] + more))
    return [_record(record) for record in content]


def _record(record: dict) -> CounterfactRecord:
    rewrite = record["requested_rewrite"]
    true, new = rewrite["target_true"], rewrite["target_new"]
    return CounterfactRecord(
        case=record["case_id"],
        fact=str(record.get("fact", record["case_id"])),
        relation=rewrite["relation_id"],
        prompt=rewrite["prompt"],
        subject=rewrite["subject"],
        target_true=true["str"],
        target_new=new["str"],
        paraphrases=tuple(record["paraphrase_prompts"]),
        neighbours=tuple(record["neighborhood_prompts"]),
        true_id=str(true.get("id", "")),
        new_id=str(new.get("id", "")),
    )


def as_counterfact(records: Sequence[CounterfactRecord]) -> str:
    """The records as JSON in CounterFact's form, with `fact` beside its keys."""
    content = [
        {
            "case_id": record.case,
            "fact": record.fact,
            "requested_rewrite": {
                "prompt": record.prompt,
                "relation_id": record.relation,
                "subject": record.subject,
                "target_new": {"str": record.target_new, "id": record.new_id},
                "target_true": {"str": record.target_true, "id": record.true_id},
            },
            "paraphrase_prompts": list(record.paraphrases),
            "neighborhood_prompts": list(record.neighbours),
        }
        for record in records
    ]
    return json.dumps(content, ensure_ascii=False, indent=1) + "\n"


def counterfact_of_facts(
    facts: pd.DataFrame,
    templates: pd.DataFrame,
    seed: int,
    n: int | None = None,
    language: str = "en",
    asked: Sequence[str] | None = None,
) -> list[CounterfactRecord]:
    """Records made from facts and from the templates that end with their object, spread evenly over the relations.

    The relation's first such template makes the rewrite, its others the paraphrases. target_new is another object of
    the relation, drawn with the seed and the fact: not true of the subject by any fact, no label inside the subject's.
    The neighbours are drawn among the other subjects with the true object (at most ten, one prompt each, over the
    templates in turn); where no subject shares it there are none. Facts without another object make no record.

    Args: facts and templates as tables; n, how many records, None for all; asked, the facts that may be asked for (all
    where None; others still lend objects and subjects).
    Raises: AtlasError when no fact of the language makes a record.
    """
    facts = facts[facts["language"] == language].drop_duplicates("fact")
    patterns = _patterns(templates[templates["language"] == language])
    allowed = facts[facts["relation"].isin(patterns)]
    if asked is not None:
        allowed = allowed[allowed["fact"].isin(set(asked))]
    of_relation = {relation: _Relation(group, patterns[relation], seed) for relation, group in _groups(facts, patterns)}
    records = []
    for row in _spread(allowed, seed):
        record = of_relation[row.relation].record(row, len(records))
        records += [record] if record is not None and (n is None or len(records) < n) else []
    if not records:
        raise AtlasError(
            f"counterfact: none of the {len(facts)} facts in {language} ({len(allowed)} of them known and with a "
            "template that ends with [Y] after [X]) makes a record; a relation needs such a template and two objects"
        )
    return records


def facts_known(known: Sequence[pd.DataFrame], language: str = "en", by: str = "all") -> list[str] | None:
    """The facts whose first query in the language is answered rightly by all models, or by any; sorted.

    Args: known, the tables of answers of the models; by "all", "any", or "none" to ask every fact (None is returned,
    as for no tables). Raises: AtlasError for another word.
    """
    if by not in KNOWN_BY:
        raise AtlasError(unknown("counterfact: known_by", by, "one of its words", KNOWN_BY))
    if by == "none" or not known:
        return None
    parts = [table[table["language"] == language].sort_values("query").drop_duplicates("fact") for table in known]
    right = [set(part.loc[part["is_argmax"], "fact"]) for part in parts]
    return sorted(set.intersection(*right) if by == "all" else set.union(*right))


def _patterns(templates: pd.DataFrame) -> dict[str, list[str]]:
    """The texts before [Y] of each relation's templates that end with it, with [X] in them."""
    found: dict[str, list[str]] = {}
    for row in templates.sort_values("template", kind="stable").itertuples(index=False):
        if is_subject_first(row.pattern) and is_final(row.pattern):
            found.setdefault(row.relation, []).append(row.pattern.split("[Y]")[0].rstrip())
    return found


def _groups(facts: pd.DataFrame, patterns: dict[str, list[str]]) -> Iterator[tuple[str, pd.DataFrame]]:
    yield from facts[facts["relation"].isin(patterns)].groupby("relation", sort=True)


def _spread(facts: pd.DataFrame, seed: int) -> Iterator[object]:
    """The first fact of every relation, then the second, ..., in an order drawn with the seed."""
    ordered = facts.assign(order=[rank(fact, seed) for fact in facts["fact"]]).sort_values("order")
    turn = ordered.groupby("relation").cumcount()
    yield from ordered.assign(turn=turn).sort_values(["turn", "order"]).itertuples(index=False)


class _Relation:
    """The facts of one relation, and how a record is made of one of them."""

    def __init__(self, facts: pd.DataFrame, patterns: list[str], seed: int):
        self.facts, self.patterns, self.seed = facts, patterns, seed
        self.labels = facts.drop_duplicates("object").set_index("object")["object_label"].to_dict()
        self.is_true = facts.groupby("subject")["object"].agg(set).to_dict()

    def record(self, row: object, case: int) -> CounterfactRecord | None:
        """The record of a fact; None where the relation has no other object for it."""
        new = self._new_object(row)
        if new is None:
            return None
        first, *others = [pattern.replace("[X]", row.subject_label) for pattern in self.patterns]
        return CounterfactRecord(
            case=case,
            fact=row.fact,
            relation=row.relation,
            prompt=self.patterns[0].replace("[X]", SLOT),
            subject=row.subject_label,
            target_true=row.object_label,
            target_new=self.labels[new],
            paraphrases=tuple(text for text in dict.fromkeys(others) if text != first),
            neighbours=self._neighbours(row, new),
            true_id=row.object,
            new_id=new,
        )

    def _new_object(self, row: object) -> str | None:
        """The first object in the fact's order that may replace its own."""
        subject, taken = row.subject_label.casefold(), self.is_true[row.subject]
        labels = {self.labels[obj].casefold() for obj in taken}
        for obj in sorted(self.labels, key=lambda obj: rank(f"{row.fact} {obj}", self.seed)):
            label = self.labels[obj].casefold()
            if obj not in taken and label not in labels and label not in subject:
                return obj
        return None

    def _neighbours(self, row: object, new: str) -> tuple[str, ...]:
        """Prompts about other subjects that have the true object, but not the new one."""
        sharing = self.facts[(self.facts["object"] == row.object) & (self.facts["subject"] != row.subject)]
        named = dict(zip(sharing["subject"], sharing["subject_label"], strict=True))
        subjects = [subject for subject in named if new not in self.is_true[subject]]
        chosen = sorted(subjects, key=lambda subject: rank(f"{row.fact} {subject}", self.seed))[:N_NEIGHBOURS]
        patterns = [self.patterns[i % len(self.patterns)] for i in range(len(chosen))]
        return tuple(pattern.replace("[X]", named[subject]) for pattern, subject in zip(patterns, chosen, strict=True))
