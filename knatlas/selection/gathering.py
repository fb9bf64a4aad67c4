"""Attribution shards put together over facts and languages, one fact's block at a time."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from knatlas.errors import AtlasError
from knatlas.storage import Block, Layout, SlicedArrays, read_metadata, read_table, write_array_blocks

# What belongs to a shard and not to its model.
OF_SHARD = ("facts", "language", "languages")
# what all shards of a model have in common
COMMON = ("model", "methods", "dtype")


def gather_shards(
    paths: Sequence[str | Path], languages: Sequence[str], output: str | Path
) -> tuple[dict, pd.DataFrame]:
    """Write the scores of a model, facts sorted, from its shards; one fact's block is in memory at a time.

    Dense shards hold one language, arrays (facts, layers, neurons): the scores are (facts, languages, layers, neurons),
    NaN where no shard has a fact in a language. Shards of candidates hold all languages and are joined along the facts.
    Returns: the metadata of the scores, and the tables of queries that lie beside the shards (NAME.queries.parquet).
    Raises: AtlasError for a file that is no shard, or is of another model, method or language than the others.
    """
    metadata = {str(path): read_metadata(path) for path in paths}
    _check_shards(metadata, languages)
    shards = {path: SlicedArrays(path) for path in metadata}
    facts = sorted({fact for part in metadata.values() for fact in part["facts"]})
    first = metadata[str(paths[0])]
    common = {key: value for key, value in first.items() if key not in OF_SHARD}
    whole = {**common, "facts": facts, "languages": list(first.get("languages", languages))}
    is_dense = "language" in first
    columns = len(languages) if is_dense else 1
    places = {path: _places(part, facts, list(languages) if is_dense else None) for path, part in metadata.items()}
    layout = _layout(shards[str(paths[0])], len(facts), len(languages) if is_dense else None)
    missing = sorted(set(range(len(facts) * columns)).difference(*places.values()))
    write_array_blocks(layout, _blocks(shards, places, missing, layout), output, whole)
    return whole, pd.concat([read_table(_queries_of(path)) for path in paths], ignore_index=True)


def _check_shards(metadata: dict[str, dict], languages: Sequence[str]) -> None:
    (first, reference), *others = metadata.items()
    remedy = "delete it, and run the workflow again"
    for path, part in metadata.items():
        if "facts" not in part or part.get("language", languages[0]) not in languages:
            what = f"is of language '{part['language']}'" if "facts" in part else "is no shard of an attribution"
            raise AtlasError(f"{path} {what}; expected a shard of {' '.join(languages)}; {remedy}")
    for path, part in others:
        for key in COMMON:
            if part.get(key) != reference.get(key):
                raise AtlasError(f"{path} has another {key} than {first}: shards of different runs; {remedy}")


def _places(part: dict, facts: list[str], languages: list[str] | None) -> list[int]:
    """For every fact of a shard the number of its block in the scores: of the fact, or of fact and language."""
    row_of = {fact: i for i, fact in enumerate(facts)}
    if languages is None:
        return [row_of[fact] for fact in part["facts"]]
    column = languages.index(part["language"])
    return [row_of[fact] * len(languages) + column for fact in part["facts"]]


def _layout(shard: SlicedArrays, n_facts: int, n_languages: int | None) -> dict[str, Layout]:
    """Type and shape of every array of the scores, from one shard."""
    between = () if n_languages is None else (n_languages,)
    return {name: (shard.kind(name), (n_facts, *between, *shard.shape(name)[1:])) for name in shard}


def _blocks(
    shards: dict, places: dict[str, list[int]], missing: list[int], layout: dict[str, Layout]
) -> Iterator[Block]:
    """Every fact of every shard, array by array, and NaN at the places that no shard fills."""
    for path, shard in shards.items():
        for name in shard:
            for i, place in enumerate(places[path]):
                block = shard[name][i : i + 1]
                yield name, place * block.size, block
    for name, (kind, _) in layout.items():
        shape = next(iter(shards.values())).shape(name)[1:]
        for place in missing:
            empty = np.full(shape, np.nan, dtype=kind)
            yield name, place * empty.size, empty


def _queries_of(path: str | Path) -> Path:
    return Path(path).with_suffix("").with_name(f"{Path(path).stem}.queries.parquet")
