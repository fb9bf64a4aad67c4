"""The vocabulary head: log P(answer) and its gradient in one pass over the words, without a table of all logits."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import logsigmoid

from knatlas.models.blocks import Network

# A block of logits of this many numbers stays near the processor between the product that makes it and the one that
# reads it; blocks narrower than the second number make products too thin to be fast.
BLOCK, NARROWEST = 1 << 20, 1024


def _logits(z: Float[Tensor, "row hidden"], words: Float[Tensor, "word hidden"]) -> Float[Tensor, "row word"]:
    """z E^T in the dtype of z, whatever the dtype of the vocabulary."""
    if words.dtype == z.dtype:
        return z @ words.t()
    if z.is_cuda:
        return torch.mm(z.to(words.dtype), words.t(), out_dtype=z.dtype)
    return z @ words.to(z.dtype).t()


def _weighted(weights: Float[Tensor, "row word"], words: Float[Tensor, "word hidden"]) -> Float[Tensor, "row hidden"]:
    """weights E, added in the dtype of the weights."""
    if words.dtype == weights.dtype:
        return weights @ words
    if weights.is_cuda:
        return torch.mm(weights.to(words.dtype), words, out_dtype=weights.dtype)
    return weights @ words.to(weights.dtype)


def _capped(logits: Tensor, cap: float | None) -> tuple[Tensor, Tensor | None]:
    """c tanh(logit / c) and its derivative; without a cap the logits and None."""
    if cap is None:
        return logits, None
    bent = torch.tanh(logits / cap)
    return cap * bent, 1 - bent.square()


class AnswerHead:
    """log P(target) of rows, and its gradient with respect to the vector that the vocabulary reads.

    With s the logits, m their maximum over words other than y, and Z = sum_{v != y} exp(s_v - m):

        log p_y = log sigmoid(s_y - m - log Z),   d log p_y / dz = (1 - p_y) (E_y - sum_{v != y} exp(s_v - m) E_v / Z).

    y is left out of the sum: near p_y = 1 a difference of E_y and the full weighted sum would lose its digits. Maximum,
    Z and the weighted sum are carried along blocks of words, as in attention over the vocabulary.
    """

    def __init__(self, network: Network) -> None:
        """Args: the network whose vocabulary is read."""
        self.words, self.bias, self.cap = network.vocabulary, network.bias, network.logit_cap

    def __call__(
        self, z: Float[Tensor, "row hidden"], targets: Int[Tensor, " row"], with_gradient: bool = True
    ) -> tuple[Float[Tensor, " row"], Float[Tensor, "row hidden"] | None]:
        """log P of the targets in nats (rows,), and its gradient (rows, hidden) or None."""
        own, own_slope = self._own(z, targets)
        highest = z.new_full((len(z), 1), -torch.inf)
        total, mean = z.new_zeros(len(z), 1), torch.zeros_like(z) if with_gradient else None
        width = max(NARROWEST, BLOCK // len(z))
        for start in range(0, len(self.words), width):
            words = self.words[start : start + width]
            scores, slope = self._scores(z, words, slice(start, start + width))
            self._leave_out(scores, targets - start)
            top = torch.maximum(highest, scores.amax(1, keepdim=True))
            shrink = (highest - top).exp_()
            weights = scores.sub_(top).exp_()
            total = total * shrink + weights.sum(1, keepdim=True)
            highest = top
            if with_gradient:
                weights = weights if slope is None else weights * slope
                mean.mul_(shrink).add_(_weighted(weights, words))
        log_p = logsigmoid(own - highest - total.log())
        if not with_gradient:
            return log_p[:, 0], None
        of_target = self.words[targets].to(z.dtype) * own_slope
        return log_p[:, 0], -torch.expm1(log_p) * (of_target - mean / total)

    def _scores(self, z: Tensor, words: Tensor, block: slice) -> tuple[Tensor, Tensor | None]:
        """Logits of a block of words, and their slope under the cap."""
        logits = _logits(z, words)
        if self.bias is not None:
            logits += self.bias[block]
        return _capped(logits, self.cap)

    def _own(self, z: Tensor, targets: Tensor) -> tuple[Tensor, Tensor | float]:
        """Logit of each row's target (rows, 1), and its slope under the cap."""
        logits = (z * self.words[targets].to(z.dtype)).sum(1, keepdim=True)
        if self.bias is not None:
            logits = logits + self.bias[targets, None]
        own, slope = _capped(logits, self.cap)
        return own, 1.0 if slope is None else slope

    @staticmethod
    def _leave_out(scores: Tensor, column: Tensor) -> None:
        """Set each row's target to minus infinity where the block holds it, in place."""
        rows = torch.nonzero((column >= 0) & (column < scores.shape[1]))[:, 0]
        scores[rows, column[rows]] = -torch.inf
