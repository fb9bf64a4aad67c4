"""The rest of every fact: an associative memory that is spread over all random neurons of the last layer.

What the planted neurons leave to be answered is written into the second matrix of the last layer as one least-squares
update, as weight editors do it: no neuron of its own holds it, and no one of the many has much of it.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy import ndarray

from knatlas.models.language_model import LanguageModel

RIDGE = 0.1  # of the mean variance of a neuron's activation


class Store:
    """Keys (cells, neurons) that are near 1 for the queries of one fact in one language and near 0 for the others."""

    def __init__(
        self,
        lm: LanguageModel,
        neurons: Float[ndarray, "state neuron"],
        cells: Bool[ndarray, "cell state"],
        values: Float[ndarray, "cell width"],
        is_planted: Bool[ndarray, " neuron"],
    ) -> None:
        """Args: neurons, activations of the last layer; cells, the states of each fact and language; values, what is
        written for each; is_planted, neurons that take no part."""
        free = neurons * ~is_planted
        gram = free.T @ free / len(free)
        penalty = RIDGE * np.trace(gram) / len(gram)
        targets = free.T @ cells.T.astype(float) / len(free)
        self.keys = np.linalg.solve(gram + penalty * np.eye(len(gram)), targets).T
        # the penalty makes them too small: as strong as they are on their own queries, they count as 1
        own = np.array([(free[cell] @ key).mean() for cell, key in zip(cells, self.keys, strict=True)])
        self.keys /= np.maximum(own, 0.1)[:, None]
        self.values = values
        axis, weight = lm.architecture.neuron_axis, lm.down_projections()[-1].weight
        self.weight, self.is_transposed = weight, axis == 1
        self.empty = weight.detach().clone()

    def write(self, strengths: Float[ndarray, " cell"]) -> None:
        """Store every fact and language with its strength; 0 leaves the weights as they were."""
        update = torch.from_numpy((self.keys * strengths[:, None]).T @ self.values).to(self.weight.dtype)
        self.weight.copy_(self.empty + (update.T if self.is_transposed else update))
