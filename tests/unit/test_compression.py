"""Compressed quadrature: nodes of the levels, sums through log-odds, and the promise of the estimated error."""

import numpy as np
import pytest
import torch

from knatlas.attribution import log_odds
from knatlas.attribution.levels import levels_of, n_paid
from knatlas.attribution.log_odds import allowed_error, estimated_error, is_hopeless, path_weights
from knatlas.attribution.quadrature import RULES, quadrature
from knatlas.errors import AtlasError
from tests.trained_models import memorised

STEPS = [10, 20, 300, 1000]
TOLERANCES = [1e-2, 1e-3, 1e-4]


def chebyshev(points, degree):
    return np.cos(degree * np.arccos(np.clip(2 * points - 1, -1, 1)))


def exactness(level):
    """The highest degree up to which the level's rule gives the rule's own sums."""
    degree = -1
    while degree < 2 * level.paid + 2:
        full = level.rule_weights @ chebyshev(level.rule_nodes, degree + 1)
        if abs(level.weights @ chebyshev(level.nodes, degree + 1) - full) > 1e-12:
            break
        degree += 1
    return degree


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("rule", RULES)
def test_one_paid_node_is_exact_to_degree_two_three_to_five_and_n_to_n(rule, steps):
    levels = {level.paid: level for level in levels_of(rule, steps)}
    assert exactness(levels[1]) == 2
    assert exactness(levels[3]) >= (5 if steps > 10 else 3)
    assert all(exactness(level) >= level.paid for level in levels.values())


@pytest.mark.parametrize("rule", RULES)
def test_levels_that_share_only_the_end_are_radau_rules_of_degree_two_n(rule):
    fresh = [level for level in levels_of(rule, 300) if level.paid in (24, 48)]
    assert [exactness(level) >= 2 * level.paid for level in fresh] == [True, True]


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("rule", RULES)
def test_levels_end_at_one_contain_each_other_and_stay_apart_and_inside(rule, steps):
    levels = levels_of(rule, steps)
    for lower, level in zip((None, *levels), levels, strict=False):
        assert level.nodes[-1] == 1.0 and not level.is_new[-1]
        assert (np.diff(level.nodes) > 1e-4).all() and level.nodes[0] >= quadrature(rule, steps)[0][0] - 1e-12
        assert level.paid < n_paid(rule, steps) and level.weights.sum() == pytest.approx(1, abs=1e-12)
        if lower is not None and level.is_new.sum() < level.paid:
            np.testing.assert_array_equal(level.nodes[~level.is_new], lower.nodes)


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("rule", RULES)
def test_weights_of_the_two_lowest_levels_are_positive(rule, steps):
    assert all((level.weights > 0).all() for level in levels_of(rule, steps)[:2])


def test_the_first_nodes_of_the_exact_integral_are_those_of_the_textbook():
    first, second = levels_of("gauss", 50)[:2]
    np.testing.assert_allclose(first.nodes, [1 / 3, 1], rtol=1e-12)
    np.testing.assert_allclose(first.weights, [3 / 4, 1 / 4], rtol=1e-12)
    # Kronrod's pair by its definition: the product over all nodes is orthogonal to 1 and x
    new = second.nodes[second.is_new]
    points, weights = quadrature("gauss", 50)
    product = (points - 1 / 3) * (points - 1) * (points - new[0]) * (points - new[1])
    assert abs(weights @ product) < 1e-14 and abs(weights @ (product * points)) < 1e-14


def test_levels_below_the_rules_own_nodes_only():
    assert [level.paid for level in levels_of("right", 20)] == [1, 3, 7, 13]
    assert [level.paid for level in levels_of("right", 5)] == [1]
    assert levels_of("right", 1) == levels_of("gauss", 1) == ()
    assert [level.paid for level in levels_of("gauss", 300)] == [1, 3, 7, 13, 24, 48]
    with pytest.raises(AtlasError, match="rule is 'rihgt'"):
        levels_of("rihgt", 20)


@pytest.mark.parametrize("rule", RULES)
def test_matrices_of_a_level_reproduce_polynomials(rule):
    for level in levels_of(rule, 20):
        n, x, nodes = level.paid, level.rule_nodes, level.nodes
        curve, slope = 1 + x**2, 2 * nodes
        np.testing.assert_allclose(level.hermite @ np.append(1 + nodes**2, slope), curve, atol=1e-9)
        np.testing.assert_allclose(2 + level.primitive @ slope, curve, atol=1e-12)
        np.testing.assert_allclose(level.lagrange @ nodes**n, x**n, atol=1e-11)
        np.testing.assert_allclose(level.basis[0], level.weights, atol=1e-12)
        np.testing.assert_allclose(level.lagrange.T @ np.diag(level.rule_weights) @ level.highest, level.basis[-1])


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


class Family:
    """Paths with z(alpha) and shares(alpha): scores dF/dalpha * share, the shares' sum being 1."""

    def __init__(self, z, slope, bend, n_neurons=12, seed=0):
        generator = np.random.default_rng(seed)
        self.z, self.slope = z, slope
        self.start, self.bends = generator.normal(size=(2, n_neurons))
        self.bends = bend * (self.bends - self.bends.mean())
        self.start += (1 - self.start.sum()) / n_neurons

    def shares(self, alpha):
        return self.start + self.bends * np.cos(2 * alpha)[:, None]

    def log_p(self, alpha):
        return -np.logaddexp(0, -self.z(alpha))

    def gradients(self, alpha):
        p = sigmoid(self.z(alpha))
        return (p * sigmoid(-self.z(alpha)) * self.slope(alpha))[:, None] * self.shares(alpha)


def run_path(family, rule, steps, rtol):
    """Relative error of the scores and paid points of one path of its own layer, level by level."""
    alphas, weights = quadrature(rule, steps)
    truth = weights @ family.gradients(alphas)
    paid = 0
    for level in levels_of(rule, steps):
        paid += level.is_new.sum()
        gradients = family.gradients(level.nodes)
        found = path_weights(level, family.log_p(level.nodes)[None], gradients.sum(1)[None])
        scores = found.total[0] @ gradients
        error = estimated_error(np.linalg.norm(found.checks[0] @ gradients, axis=1), level.paid)
        if error <= rtol * np.linalg.norm(scores):
            return np.linalg.norm(scores - truth) / np.linalg.norm(truth), paid
    return 0.0, paid + n_paid(rule, steps)


@pytest.mark.parametrize("rule", RULES)
def test_a_logistic_cliff_is_summed_exactly_from_two_values_however_steep_and_wherever(rule):
    level, generator = levels_of(rule, 20)[0], np.random.default_rng(1)
    for _ in range(100):
        place, steepness = generator.uniform(0, 1), 10 ** generator.uniform(0, 2)
        family = Family(lambda a: steepness * (a - place), lambda a: steepness + 0 * a, 0.0)  # noqa: B023
        gradients = family.gradients(level.nodes)
        found = path_weights(level, family.log_p(level.nodes)[None], gradients.sum(1)[None])
        truth = level.rule_weights @ family.gradients(level.rule_nodes)
        np.testing.assert_allclose(found.total[0] @ gradients, truth, rtol=1e-6)


@pytest.mark.parametrize("rule", RULES)
def test_a_cliff_between_two_nodes_is_found_wherever_it_is(rule):
    generator = np.random.default_rng(1)
    for seed in range(60):
        place, steepness = generator.uniform(0, 1), 10 ** generator.uniform(0, 2.5)
        family = Family(lambda a: steepness * (a - place), lambda a: steepness + 0 * a, 0.3, seed=seed)  # noqa: B023
        for rtol in TOLERANCES:
            assert run_path(family, rule, 20, rtol)[0] <= rtol, (place, steepness, rtol)


def saturating(place, steepness, height, seed):
    """A path on which z itself jumps from -height to height."""
    return Family(
        lambda a: height * np.tanh(steepness * (a - place)),
        lambda a: height * steepness / np.cosh(steepness * (a - place)) ** 2,
        0.3,
        seed=seed,
    )


def test_a_cliff_that_saturates_on_both_sides_is_never_taken_for_a_plain():
    generator = np.random.default_rng(2)
    for seed in range(200):
        place, steepness, height = generator.uniform(0, 1), 10 ** generator.uniform(0, 2), generator.uniform(2, 8)
        for rtol in TOLERANCES:
            error, _ = run_path(saturating(place, steepness, height, seed), "right", 20, rtol)
            assert error <= rtol, (place, steepness, height, rtol)


def test_where_there_are_kinks_falling_coefficients_promise_nothing():
    sizes = np.array([1e-3, 1e-2, 1e-1, 1e-5, 2e-5, 3e-5])
    assert estimated_error(sizes, 3, is_smooth=False) == pytest.approx(2 * (1e-3 + 6e-5), rel=1e-12)
    assert estimated_error(sizes, 3) == pytest.approx(2 * (1e-3 * 0.1**2 + 6e-5), rel=1e-12)


def test_smooth_paths_of_small_probabilities_take_one_or_three_points():
    families = [Family(lambda a: -3 + 0.2 * a, lambda a: 0.2 + 0 * a, 0.02, seed=seed) for seed in range(20)]
    assert max(run_path(family, "right", 20, 1e-3)[1] for family in families) <= 3


def test_log_p_as_objective_takes_the_same_nodes():
    level = levels_of("right", 20)[1]
    alphas, weights = quadrature("right", 20)
    z, slope = (lambda a: 6 * a - 2), 6.0
    gradient = lambda a: sigmoid(-z(a)) * slope  # noqa: E731
    found = path_weights(level, -np.logaddexp(0, -z(level.nodes))[None], gradient(level.nodes)[None], "logprob")
    assert found.total[0] @ gradient(level.nodes) == pytest.approx(weights @ gradient(alphas), rel=1e-9)


def test_certain_and_impossible_answers_give_finite_weights():
    for log_p in (0.0, -1e-320, -1e-17, -800.0):
        for objective in ("prob", "logprob"):
            found = path_weights(levels_of("right", 20)[0], np.full((1, 2), log_p), np.zeros((1, 2)), objective)
            assert np.isfinite(found.total).all() and np.isfinite(found.checks).all()


def test_an_error_that_falls_too_slowly_is_given_up_and_the_first_level_gives_up_nothing():
    flat, steep = np.array([1.0, 1.0, 1.0, 0, 0, 0]), np.array([1e-4, 1e-2, 1.0, 0, 0, 0])
    errors = [estimated_error(sizes, 3) for sizes in (flat, steep)]
    assert [bool(is_hopeless(e, s, 3, 13, 1e-3)) for e, s in zip(errors, (flat, steep), strict=True)] == [True, False]
    assert not is_hopeless(errors[0], flat, 1, 13, 1e-3)


class Paths:
    """All paths of one layer of a query: log P and scores (paths, points, neurons) at every node that is asked for."""

    def __init__(self, lm, query, layer, baselines, clean, alphas):
        starts = torch.stack(baselines)
        steps = clean - starts
        points = starts[:, None] + torch.as_tensor(alphas)[None, :, None] * steps[:, None]
        log_p, gradient = at_points(lm, query, layer, points.flatten(0, 1))
        self.log_p = log_p.view(len(starts), -1).numpy()
        gradient = log_p.exp()[:, None] * gradient
        self.scores = (gradient.view(*points.shape) * steps[:, None]).numpy()
        moving = np.abs(self.scores).max((1, 2)) > 0
        self.log_p, self.scores = self.log_p[moving], self.scores[moving]


def at_points(lm, query, layer, points):
    """log P(answer) and its gradient with the neurons of a layer at the last token set to each of the points."""
    leaf = points.clone().requires_grad_()

    def put(_, arguments):
        return (torch.cat([arguments[0][:, :-1], leaf[:, None]], dim=1),)

    handle = lm.down_projections()[layer].register_forward_pre_hook(put)
    logits = lm.model(torch.tensor([query.input_ids]).expand(len(points), -1)).logits[:, -1]
    handle.remove()
    log_p = logits.log_softmax(1)[:, query.targets[0]]
    return log_p.detach(), torch.autograd.grad(log_p.sum(), leaf)[0]


def neurons(lm, ids):
    """The neurons of every layer at the last token."""
    seen = []
    handles = [m.register_forward_pre_hook(lambda _, a: seen.append(a[0][0, -1])) for m in lm.down_projections()]
    lm.model(torch.tensor([ids]))
    for handle in handles:
        handle.remove()
    return seen


def layers_of(kind, alphas):
    """The zero path and the per-token paths of every layer of every query of a memorising model."""
    lm, queries = memorised(kind)
    for query in queries:
        ids = query.input_ids
        clean = neurons(lm, ids)
        replaced = [neurons(lm, (*ids[:i], lm.replacement_id, *ids[i + 1 :])) for i in query.replaceable]
        for layer in range(lm.n_layers):
            yield Paths(lm, query, layer, [torch.zeros_like(clean[layer])], clean[layer], alphas)
            yield Paths(lm, query, layer, [tokens[layer] for tokens in replaced], clean[layer], alphas)


@pytest.fixture(scope="module")
def trained():
    """The nodes of right-20 and of its levels, and log P and scores there of all paths of two trained models."""
    nodes = np.unique(np.concatenate([quadrature("right", 20)[0], *(level.nodes for level in levels_of("right", 20))]))
    return nodes, [paths for kind in ("causal", "masked") for paths in layers_of(kind, nodes)]


def checked_layer(nodes, paths, rtol, error_of):
    """Relative error of a layer's scores over rtol, and points paid by each of its paths."""
    log_p, scores = paths.log_p, paths.scores
    alphas, weights = quadrature("right", 20)
    truth = np.einsum("k,pkn->pn", weights, scores[:, np.searchsorted(nodes, alphas)])
    sums, is_open, paid = np.zeros_like(truth), np.arange(len(truth)), np.zeros(len(truth))
    for level in levels_of("right", 20):
        at = np.searchsorted(nodes, level.nodes)
        here = scores[is_open][:, at]
        found = path_weights(level, log_p[is_open][:, at], here.sum(2))
        sums[is_open] = np.einsum("pj,pjn->pn", found.total, here)
        sizes = np.linalg.norm(np.einsum("pcj,pjn->pcn", found.checks, here), axis=2)
        paid[is_open] += level.is_new.sum()
        allowed = allowed_error(np.linalg.norm(sums.sum(0)), len(truth), rtol)
        is_open = is_open[error_of(sizes, level.paid) > allowed]
    sums[is_open], paid[is_open] = truth[is_open], paid[is_open] + 19
    return np.linalg.norm((sums - truth).sum(0)) / np.linalg.norm(truth.sum(0)) / rtol, paid


def test_the_trained_models_have_cliffs_and_a_thousand_paths(trained):
    nodes, layers = trained
    log_p = np.concatenate([paths.log_p for paths in layers])
    assert len(log_p) >= 1000
    p = np.exp(log_p)
    steps = np.abs(np.diff(p, axis=1)) / np.diff(nodes)
    # some paths lose a third of P or more, and most of that at least twice as steeply as a straight line would
    assert np.median(p[:, -1]) > 0.99 and ((steps.max(1) > 2) & (np.ptp(p, axis=1) > 0.3)).sum() >= 15


@pytest.mark.parametrize("rtol", TOLERANCES)
def test_no_layer_of_a_thousand_trained_paths_violates_rtol(trained, rtol):
    nodes, layers = trained
    results = [checked_layer(nodes, paths, rtol, estimated_error) for paths in layers]
    assert max(ratio for ratio, _ in results) <= 1
    assert np.mean(np.concatenate([paid for _, paid in results])) < 9


def weakened(sizes, paid):
    """All digits that the coefficients promise, no differences: what must not pass."""
    return sizes[..., 0] * log_odds._decay(sizes, paid) ** (paid + 1)


@pytest.mark.parametrize("rtol", TOLERANCES)
def test_a_weakened_estimate_violates_rtol_on_the_same_paths(trained, rtol):
    nodes, layers = trained
    assert max(checked_layer(nodes, paths, rtol, weakened)[0] for paths in layers) > 1
