"""Scores of all neurons, and the same scores as a candidates' file would hold them."""

import numpy as np

from knatlas.attribution.candidates import Candidates
from knatlas.selection.scores import Scores


def candidates_of(scores: Scores, n: int) -> Scores:
    """What is left of dense scores when `n` candidates are kept per fact."""
    keep, parts = Candidates(tuple(scores.languages), n), []
    for i in range(len(scores.facts)):
        found = {name: np.asarray(scores.arrays[name][i : i + 1], dtype=np.float32)[0] for name in scores.arrays}
        present = [k for k, part in enumerate(found["saig.mean"]) if not np.isnan(part.flat[0])]
        parts.append(keep.of_fact({scores.languages[k]: {name: found[name][k] for name in found} for k in present}))
    arrays = {name: np.stack([part[name] for part in parts]) for name in parts[0]}
    weights = keep.metadata(*scores.shape)["grid"]
    return Scores(arrays, list(scores.facts), list(scores.languages), scores.metadata, scores.shape, weights)


def heavy_tailed(seed: int, n_facts=4, n_languages=3, n_layers=3, n_neurons=200, tail=1.2) -> Scores:
    """Random scores as attributions look: few large ones, shared over languages in part, many near zero, both signs."""
    random = np.random.default_rng(seed)
    shape = (n_facts, n_languages, n_layers, n_neurons)
    shared = random.pareto(tail, size=(n_facts, 1, n_layers, n_neurons))
    own = random.pareto(tail, size=shape) * random.choice([-1, 1], size=shape)
    queries = np.stack([shared + (0.05 + random.random(shape)) * own for _ in range(3)])
    share = (queries > 0.3 * queries.max(axis=(3, 4), keepdims=True)).mean(axis=0)
    arrays = {"saig.mean": queries.mean(axis=0), "saig.std": queries.std(axis=0), "saig.first": queries[0]}
    arrays |= {"bkn.first": queries[0], "bkn.share": share, "amig.first": queries[1]}
    languages = ["en", "fi", "ko", "zh", "hu", "ja", "fr"][:n_languages]
    facts = [f"P1:s{i}>o{i}" for i in range(n_facts)]
    return Scores({name: array.astype(np.float32) for name, array in arrays.items()}, facts, languages)
