"""Transformer layers as arithmetic on token vectors: what the fast path of the attribution engine knows of a model."""

from knatlas.models.blocks.builders import network_of
from knatlas.models.blocks.network import Network

__all__ = ["Network", "network_of"]
