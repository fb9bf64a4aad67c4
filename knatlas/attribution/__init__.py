"""The attribution engine and the methods on it: B-KN, AMIG, SAIG.

What needs no model is named here; `engine.attribute` and `shard.attribute_shard` need PyTorch and are imported from
their modules, so that a study can be checked without it.
"""

from knatlas.attribution.methods import AMIG, B_KN, SAIG, AttributionMethod, preset
from knatlas.attribution.quadrature import quadrature

__all__ = ["AMIG", "B_KN", "SAIG", "AttributionMethod", "preset", "quadrature"]
