"""How many rows one sweep may have: from free memory, fewer once it has run out."""

import psutil
import torch

from knatlas.attribution.memory_limit import allowed_bytes
from knatlas.models.blocks import Network

# Part of the free memory that a sweep may take, and what is enough on a processor: larger batches gain nothing there.
SHARE, ENOUGH = 0.6, 512 * 2**20


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a tensor found no room."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "allocate memory" in str(error)


def free_bytes(device: torch.device) -> int:
    """Memory that is free on a device, in bytes; on a processor within the limits of the job."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return int(min(psutil.virtual_memory().available, allowed_bytes()))


def row_bytes(network: Network, n_tokens: int) -> int:
    """Bytes that one point of every layer's share keeps for the backward pass, on average over the layers.

    A token keeps about 10 vectors of the residual stream's size and 2 of the neurons' (4 in gated networks) per layer
    above its own, in the residual stream's dtype; n_tokens, tokens of a row (1 in causal models).
    """
    feed, n_layers = network.blocks[0].feed, len(network.blocks)
    n_neurons, hidden = feed.inward.weight.shape
    numbers = 10 * hidden + (2 if feed.up is None else 4) * n_neurons
    return n_tokens * numbers * network.work.itemsize * max(1, n_layers // 2)


class Rows:
    """The most rows of one sweep; speed and memory, not results."""

    def __init__(self, most: int) -> None:
        """Args: rows, at least 1."""
        self.most = most

    def halve(self, n_points: int, n_readouts: int) -> bool:
        """Take half of the rows that were too many: a sweep has `n_points` rows of each of `n_readouts` readouts.

        Returns: whether there is a half, that is more than one point.
        """
        self.most = max(1, n_points // 2) * n_readouts
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return n_points > 1


def rows_for(network: Network, n_tokens: int, batch_rows: int) -> Rows:
    """As many rows as asked for, or for 0 as free memory allows.

    Args: n_tokens, tokens of a row (1 in causal models); batch_rows, rows, or 0.
    """
    if batch_rows:
        return Rows(batch_rows)
    free = free_bytes(network.device) * SHARE
    room = free if network.device.type == "cuda" else min(free, ENOUGH)
    return Rows(max(1, int(room // row_bytes(network, n_tokens))))
