"""What a user asks the workflow for: names of rules and files that nothing makes are refused, with the nearest name."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from difflib import get_close_matches
from os.path import normpath
from pathlib import Path

from knatlas.errors import nearest, unknown

# names of wildcards that a pattern of an output holds
WILDCARD = re.compile(r"\{([^,}]+)[^}]*\}")


def target_mistakes(
    asked: Iterable[str],
    rules: Mapping[str, Collection[str]],
    values: Mapping[str, Collection[str]],
    study: str,
) -> Iterator[str]:
    """A sentence for each name that is no rule, no file that is there, and no file that a rule makes.

    Args: asked, names of rules or paths from the working folder; rules, the patterns of the outputs of each rule, such
    as "results/smoke/known/{model}.parquet"; values, the values that a wildcard may have (any where it isn't named);
    study, the study's name.
    """
    for name in sorted({normpath(name) for name in asked}):
        if name not in rules and not Path(name).is_absolute() and not Path(name).exists():
            yield from _mistake(name, rules, values, study)


def _mistake(name: str, rules: Mapping, values: Mapping, study: str) -> Iterator[str]:
    patterns = [pattern for outputs in rules.values() for pattern in outputs]
    wrong: list[str] = []
    for pattern in patterns:
        found = _match(pattern, name)
        if found is None:
            continue
        wrong = list(_value_mistakes(name, found, values))
        if not wrong:
            return
    yield from wrong or [_nothing_makes(name, rules, patterns, values, study)]


def _match(pattern: str, name: str) -> dict[str, str] | None:
    """The values of a pattern's wildcards in a path; None where it does not fit."""
    names = [wildcard.strip() for wildcard in WILDCARD.findall(pattern)]
    parts = [re.escape(part) for part in WILDCARD.sub("\0", pattern).split("\0")]
    match = re.fullmatch("([^/]+)".join(parts), name)
    return None if match is None else dict(zip(names, match.groups(), strict=True))


def _value_mistakes(name: str, found: Mapping[str, str], values: Mapping[str, Collection[str]]) -> Iterator[str]:
    for wildcard, value in found.items():
        if wildcard in values and value not in values[wildcard]:
            yield unknown(f"the target {name}: its {wildcard}", value, f"a {wildcard} of the study", values[wildcard])


def _nothing_makes(name: str, rules: Mapping, patterns: list[str], values: Mapping, study: str) -> str:
    """The sentence for a name that fits no rule."""
    folder = re.match(r"results/([^/]+)/", name)
    if folder and folder.group(1) != study:
        return (
            f"the target {name} is of the study '{folder.group(1)}', but this one is '{study}' (results/{study}/); "
            "name the other study's configuration: --configfile studies/NAME.yaml"
        )
    if "/" not in name and "." not in name:
        shown = [rule for rule, outputs in rules.items() if not outputs]
        hint = nearest(name, [*shown, *rules])
        return f"the target '{name}' is no rule and no file; stages are {' '.join(shown)}.{hint} All: snakemake --list"
    paths = [path for pattern in patterns for path in _filled(pattern, values)]
    close = get_close_matches(name, paths, n=1, cutoff=0.7)
    hint = f" Did you mean '{close[0]}'?" if close else " docs/outputs.md lists the files of a study."
    return f"the target '{name}' is a file that is not there and that no rule makes.{hint}"


def _filled(pattern: str, values: Mapping[str, Collection[str]]) -> list[str]:
    """The paths of a pattern for all values of its wildcards; none where a wildcard may have any."""
    paths = [pattern]
    for wildcard in WILDCARD.finditer(pattern):
        known = values.get(wildcard.group(1).strip(), ())
        paths = [path.replace(wildcard.group(0), value) for path in paths for value in known]
    return paths
