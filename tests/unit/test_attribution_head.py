"""The vocabulary head: log P of the answer and its gradient against the softmax of PyTorch in float64."""

from types import SimpleNamespace

import pytest
import torch

from knatlas.attribution import head
from knatlas.attribution.head import AnswerHead

ROWS, HIDDEN, WORDS = 7, 6, 53


def network(dtype=torch.float64, bias=False, cap=None):
    """What the head reads of a network, the same numbers in every dtype."""
    generator = torch.Generator().manual_seed(0)
    vocabulary = torch.randn(WORDS, HIDDEN, generator=generator, dtype=torch.float64).to(dtype)
    offset = torch.randn(WORDS, generator=generator, dtype=torch.float64).to(dtype) if bias else None
    return SimpleNamespace(vocabulary=vocabulary, bias=offset, logit_cap=cap)


def rows(n=ROWS, seed=1):
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(n, HIDDEN, generator=generator, dtype=torch.float64)
    return z, torch.randint(WORDS, (n,), generator=generator)


def reference(net, z, targets):
    """log P and its gradient by the softmax over all logits, in float64."""
    z = z.double().requires_grad_()
    logits = z @ net.vocabulary.double().t()
    if net.bias is not None:
        logits = logits + net.bias.double()
    if net.logit_cap is not None:
        logits = net.logit_cap * torch.tanh(logits / net.logit_cap)
    log_p = logits.log_softmax(1).gather(1, targets[:, None])[:, 0]
    return log_p.detach(), torch.autograd.grad(log_p.sum(), z)[0]


@pytest.fixture(params=[None, (2, 1), (3, 4), (ROWS * 10, 1), (1, WORDS - 1), (1, WORDS)])
def blocks(request, monkeypatch):
    """Blocks of words: one, or many of few words; the last of them may hold one word."""
    if request.param is not None:
        block, narrowest = request.param
        monkeypatch.setattr(head, "BLOCK", block)
        monkeypatch.setattr(head, "NARROWEST", max(2, narrowest))


@pytest.mark.parametrize("cap", [None, 1.5])
@pytest.mark.parametrize("bias", [False, True])
def test_value_and_gradient_are_those_of_the_softmax_in_any_blocks(blocks, bias, cap):
    net, (z, targets) = network(bias=bias, cap=cap), rows()
    log_p, gradient = AnswerHead(net)(z, targets)
    expected = reference(net, z, targets)
    torch.testing.assert_close(log_p, expected[0], rtol=1e-13, atol=1e-14)
    torch.testing.assert_close(gradient, expected[1], rtol=1e-12, atol=1e-14)


def test_every_word_can_be_the_target_in_any_blocks(blocks):
    net, (z, _) = network(bias=True), rows(WORDS)
    targets = torch.arange(WORDS)
    log_p, gradient = AnswerHead(net)(z, targets)
    expected = reference(net, z, targets)
    torch.testing.assert_close(log_p, expected[0], rtol=1e-13, atol=1e-14)
    torch.testing.assert_close(gradient, expected[1], rtol=1e-12, atol=1e-14)


def test_probabilities_of_all_words_sum_to_one():
    net, (z, _) = network(bias=True, cap=3.0), rows(1)
    log_p, _ = AnswerHead(net)(z.expand(WORDS, -1), torch.arange(WORDS))
    assert log_p.exp().sum().item() == pytest.approx(1, abs=1e-13)


def test_without_gradient_the_value_is_the_same_and_there_is_none():
    net, (z, targets) = network(bias=True), rows()
    with_gradient, _ = AnswerHead(net)(z, targets)
    log_p, gradient = AnswerHead(net)(z, targets, with_gradient=False)
    assert gradient is None and torch.equal(log_p, with_gradient)


def confident(margin):
    """A row in float32 whose target stands `margin` above all other words together: 16 is p = 0.9999999."""
    net, (z, targets) = network(torch.float32), rows(1)
    z = z.float()
    logits = z @ net.vocabulary.t()
    wanted = logits.index_fill(1, targets, -torch.inf).logsumexp(1) + margin
    net.vocabulary[targets] += (wanted - logits[0, targets]) * z / (z**2).sum()
    return net, z, targets


@pytest.mark.parametrize("margin", [-30.0, 0.0, 16.0, 19.0, 40.0])
def test_float32_keeps_its_digits_for_hopeless_and_for_certain_answers(margin):
    net, z, targets = confident(margin)
    log_p, gradient = AnswerHead(net)(z, targets)
    expected = exact_of_certain(net, z, targets)
    assert log_p.dtype == gradient.dtype == torch.float32
    torch.testing.assert_close(log_p.double(), expected[0], rtol=2e-5, atol=0)
    # relative to the size of each row's gradient
    errors = (gradient.double() - expected[1]).norm(dim=1) / expected[1].norm(dim=1)
    assert errors.max() <= 2e-5


def exact_of_certain(net, z, targets):
    """log P and its gradient in float64 with 1 - p as a sum over the other words, which cancels nowhere."""
    words, z = net.vocabulary.double(), z.double()
    logits = z @ words.t()
    own = logits.gather(1, targets[:, None])
    others = logits.scatter(1, targets[:, None], -torch.inf)
    log_rest = others.logsumexp(1, keepdim=True)
    mean = others.softmax(1) @ words
    lost = torch.sigmoid(log_rest - own)
    return torch.nn.functional.logsigmoid(own - log_rest)[:, 0], lost * (words[targets] - mean)


def test_a_softmax_in_float32_would_lose_the_digits_that_the_head_keeps():
    net, z, targets = confident(16.0)
    expected = exact_of_certain(net, z, targets)
    assert expected[0].exp().item() == pytest.approx(1 - 1.1e-7, abs=1e-8)
    leaf = z.clone().requires_grad_()
    log_p = (leaf @ net.vocabulary.t()).softmax(1).gather(1, targets[:, None]).log()
    (naive,) = torch.autograd.grad(log_p.sum(), leaf)
    lost = ((naive.double() - expected[1]).norm(dim=1) / expected[1].norm(dim=1)).max()
    assert lost > 1e-2


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("bias", [False, True])
def test_a_vocabulary_in_half_precision_is_read_in_float32(blocks, dtype, bias):
    net, (z, targets) = network(dtype, bias=bias), rows()
    log_p, gradient = AnswerHead(net)(z.float(), targets)
    expected = reference(net, z.float(), targets)  # the same rounded words
    assert log_p.dtype == gradient.dtype == torch.float32
    torch.testing.assert_close(log_p.double(), expected[0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient.double(), expected[1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("size", [1e4, 1e-8])
def test_very_large_and_very_small_logits_give_finite_values(size):
    net, (z, targets) = network(torch.float32), rows()
    log_p, gradient = AnswerHead(net)((size * z).float(), targets)
    expected = reference(net, (size * z).float(), targets)
    assert log_p.isfinite().all() and gradient.isfinite().all()
    torch.testing.assert_close(log_p.double(), expected[0], rtol=1e-5, atol=1e-6)
