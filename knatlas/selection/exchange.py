"""Neuron sets from and for other people's code: files that list neurons become sets of the study, and back."""

from collections.abc import Mapping, Sequence

import numpy as np

from knatlas.errors import AtlasError, unknown
from knatlas.selection.importers.listed import ListedSet, is_for_all_facts
from knatlas.selection.neuron_set import ALL, FoundSet, NeuronSets, as_table

Exported = dict[str, list[list[int]]]  # key, pairs [layer, index]


def import_sets(
    listed: Sequence[ListedSet],
    name: str,
    reference: NeuronSets,
    keys: Mapping[str, str],
    source: Mapping,
    where: str,
) -> NeuronSets:
    """The sets that a file lists, as a selection of the study.

    Keys that mean no fact of the study are left out and counted; facts without a key are `not_searched`. Sets that
    belong to no fact (the key "all") have the one fact "all". The metadata's `imported` holds `source` and the numbers
    of keys in the file and of those that are known.

    Args: listed, what the file lists; name, of the selection; reference, sets of the same model, whose facts, shape and
    identity the import takes; keys, the fact of each key; source, what to record; where, the file, for the sentences.
    Raises: AtlasError when no key is known, two keys mean one fact, or a neuron isn't in the model.
    """
    _check_shape(listed, reference, where)
    if is_for_all_facts(listed):
        facts, found = [ALL], list(listed)
    else:
        facts, found = list(reference.facts), _known(listed, keys, reference, where)
    languages = list(dict.fromkeys(part.language for part in found))
    given = {(part.key, part.language) for part in found}
    _check_unique(found, where)
    table = as_table(name, [FoundSet(part.key, part.language, 0, *part[2:]) for part in found])
    counts = {"n_keys": len({part.key for part in listed}), "n_known": len({part.key for part in found})}
    missing = [(fact, language) for fact in facts for language in languages if (fact, language) not in given]
    origin = {"model": reference.origin.get("model", ""), "imported": {**source, **counts}}
    return NeuronSets(table, name, facts, languages, *reference.shape, not_searched=missing, origin=origin)


def export_sets(sets: NeuronSets, language: str, names: Mapping[str, str] | None = None, draw: int = 0) -> Exported:
    """The sets of one language as {fact: [[layer, index], ...]}, JSON-like, largest score first.

    A fact with an empty set has an empty list; one that was not searched is left out.

    Args: names, what to write in place of the facts' ids ({fact: uuid}); facts without one are left out.
    Raises: AtlasError for a language or draw that the sets lack.
    """
    if sets.languages != [ALL] and language not in sets.languages:
        raise AtlasError(unknown("the language to export", language, f"one of {sets.selection}", sets.languages))
    facts = [fact for fact in sets.facts if sets.is_searched(fact, language)]
    names = {fact: fact for fact in facts} if names is None else names
    return {names[fact]: np.stack(sets.of(fact, language, draw), axis=1).tolist() for fact in facts if fact in names}


def _known(listed: Sequence[ListedSet], keys: Mapping[str, str], reference: NeuronSets, where: str) -> list[ListedSet]:
    """The sets whose keys are known, under the facts that these mean, in the order of the facts."""
    found = [part._replace(key=keys[part.key]) for part in listed if part.key in keys]
    if not found:
        first = listed[0].key if listed else ""
        raise AtlasError(
            f"{where}: none of its {len({part.key for part in listed})} keys ('{first}', ...) is known to the study, "
            f"whose {len(reference.facts)} facts have ids such as '{min(reference.facts, default='')}'; give a mapping "
            "from keys to these ids"
        )
    order = {fact: i for i, fact in enumerate(reference.facts)}
    return sorted(found, key=lambda part: order[part.key])


def _check_unique(found: Sequence[ListedSet], where: str) -> None:
    seen = set()
    for part in found:
        if part[:2] in seen:
            raise AtlasError(f"{where}: two of its keys mean the fact {part.key}; leave one of them out of the mapping")
        seen.add(part[:2])


def _check_shape(listed: Sequence[ListedSet], reference: NeuronSets, where: str) -> None:
    """AtlasError for neurons that the model does not have, with how many of how many they are."""
    n_layers, n_neurons = reference.shape
    layers, indices = (np.concatenate([np.zeros(0, int), *(part[i] for part in listed)]) for i in (2, 3))
    is_outside = (layers < 0) | (layers >= n_layers) | (indices < 0) | (indices >= n_neurons)
    if not is_outside.any():
        return
    first = np.flatnonzero(is_outside)[0]
    # the only trace that layers counted from 1 leave: none is 0, and the last is one too many
    is_shifted = layers.min() == 1 and layers.max() == n_layers and (indices < n_neurons).all()
    reason = "layers seem to be counted from 1: subtract 1 from each" if is_shifted else "the file is of another model"
    raise AtlasError(
        f"{where}: {is_outside.sum()} of its {len(layers)} neurons are not in the model, the first [{layers[first]}, "
        f"{indices[first]}]; expected layers 0 to {n_layers - 1} and indices 0 to {n_neurons - 1}. Perhaps {reason}"
    )
