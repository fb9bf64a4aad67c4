"""What an attribution method is: a path, a rule, a factor, a norm; and the readings of B-KN, AMIG and SAIG."""

import re
from dataclasses import dataclass, replace

from knatlas.attribution.quadrature import check_rule
from knatlas.errors import AtlasError, unknown

PATHS = ("zero", "per_token", "mean_path")
MULTIPLIERS = ("delta", "full")
NORMS = ("none", "layer_sum", "layer_l1", "query_l1")
NEURON_SITES = ("down_input", "pre_activation")
OBJECTIVES = ("prob", "logprob")
QUADRATURES = ("full", "checked")
EQUATIONS = ("default", "paper", "code")
KINDS = ("masked", "causal")


def _check(where: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raise AtlasError unless `value` is one of `allowed`."""
    if value not in allowed:
        raise AtlasError(unknown(where, value, "one of", allowed))


@dataclass(frozen=True)
class AttributionMethod:
    """One way of giving every neuron a score by integrated gradients.

    With a the activations of a layer at the read positions, b_i those under baseline i, and F the objective as a
    function of the activations put there, everything else being computed from the query,

        Attr(j) = sum_i m_ij * sum_k w_k dF(b_i + alpha_k (a - b_i)) / da_j.

    name: of the method, in files and tables.
    path: "zero", one baseline b = 0; "per_token", one baseline for each token of the query, which is replaced by the
        mask token (masked models) or the end-of-text token (causal models); "mean_path", the average of those paths
        point by point, that is the one path from the mean of the b_i.
    rule, steps: nodes alpha_k and weights w_k (see `quadrature`).
    multiplier: m_ij = a_j - b_ij ("delta") or a_j ("full").
    norm: "none"; "layer_sum", divided by the sum over the layer; "layer_l1", by the sum of absolute values over the
        layer; "query_l1", by that sum over all layers.
    neuron_site: "down_input", the input of the second matrix of the feed-forward part, or "pre_activation", the value
        before the non-linearity.
    replace_special: replace the special tokens and the masks as well, not only the query's own tokens.
    objective: F = P(answer) ("prob") or its natural logarithm ("logprob").
    quadrature: "full", all nodes of the rule, or "checked", the same sum from few points with an error estimate for
        each path, and all nodes where the estimate is too large. rtol: relative L2 error of a layer's scores that
        "checked" allows against the full sum.
    Raises: AtlasError for an unknown choice.
    """

    name: str
    path: str = "per_token"
    rule: str = "right"
    steps: int = 20
    multiplier: str = "delta"
    norm: str = "none"
    neuron_site: str = "down_input"
    replace_special: bool = False
    objective: str = "prob"
    quadrature: str = "full"
    rtol: float = 1e-3

    def __post_init__(self) -> None:
        """Check every choice."""
        # letters, digits, "_" and "-" only: names of arrays in files are "{method}.{statistic}"
        if not re.fullmatch(r"[A-Za-z0-9_-]+", self.name):
            raise AtlasError(f"The name of an attribution method is '{self.name}'; expected letters, digits, '_', '-'.")
        where = f"Attribution method '{self.name}'"
        _check(f"{where}: path", self.path, PATHS)
        _check(f"{where}: multiplier", self.multiplier, MULTIPLIERS)
        _check(f"{where}: norm", self.norm, NORMS)
        _check(f"{where}: neuron_site", self.neuron_site, NEURON_SITES)
        _check(f"{where}: objective", self.objective, OBJECTIVES)
        _check(f"{where}: quadrature", self.quadrature, QUADRATURES)
        if not 0 < self.rtol < 1:
            raise AtlasError(f"{where}: rtol is {self.rtol}; expected a number above 0 and below 1, such as 0.001.")
        if not isinstance(self.replace_special, bool):
            raise AtlasError(f"{where}: replace_special is {self.replace_special!r}; expected true or false.")
        check_rule(self.rule, self.steps)

    @property
    def is_complete(self) -> bool:
        """Whether Attr sums to F(a) - F(b) for exact integrals: the factor is a - b."""
        return self.multiplier == "delta" or self.path == "zero"

    @property
    def integral(self) -> "AttributionMethod":
        """The method reduced to what decides its gradients: methods with equal integrals need one sweep together."""
        same = {"name": "integral", "norm": "none", "replace_special": self.replace_special and self.path != "zero"}
        if self.quadrature == "full":  # the factor decides what error the checked quadrature allows
            same |= {"multiplier": "delta", "rtol": 1e-3}
        return replace(self, **same)


# Released B-KN code takes np.linspace(0, 1, 20) as its grid; the three papers print the right Riemann sum.
_BKN = AttributionMethod("bkn", path="zero")
B_KN = {"default": _BKN, "paper": _BKN, "code": replace(_BKN, rule="linspace")}

# The factor of Eq. 4 of AMIG is the activation itself, and Eq. 5 divides by the sum over the layer. Its released code
# averages the paths of all tokens, special tokens and the mask included, on the left grid, and does not normalise.
_AMIG = AttributionMethod("amig")
AMIG = {
    "default": _AMIG,
    "paper": replace(_AMIG, multiplier="full", norm="layer_sum"),
    "code": replace(_AMIG, path="mean_path", rule="left", multiplier="full", replace_special=True),
}

# No code was released for SAIG: its `code` reading is the printed one at the neurons that its authors' code hooks.
_SAIG = AttributionMethod("saig", norm="layer_l1")
SAIG = {"default": _SAIG, "paper": replace(_SAIG, norm="layer_sum"), "code": replace(_SAIG, norm="layer_sum")}

# Attribution patching: the gradient at the query alone, one point for all paths. A screening, not an integral.
_ATP = AttributionMethod("atp", steps=1)
ATP = {"default": _ATP, "paper": _ATP, "code": _ATP}

PRESETS = {"bkn": B_KN, "amig": AMIG, "saig": SAIG, "atp": ATP}


def preset(name: str, equations: str = "default", kind: str = "masked") -> AttributionMethod:
    """A published method in one reading of its equations, with 20 steps (the released AMIG runs took 10 or 20).

    Args: name, "bkn", "amig", "saig" or "atp"; equations, "default" (recommended), "paper" (as printed) or "code" (as
    released); kind of the model, which matters for "code" alone: released code takes the value before the
    non-linearity as the neuron of causal models, and the value after it in masked ones.
    Raises: AtlasError for an unknown name, reading or kind.
    """
    _check("The preset of an attribution method", name, tuple(PRESETS))
    _check(f"The reading of the equations of '{name}'", equations, EQUATIONS)
    _check("The kind of the model", kind, KINDS)
    is_before = equations == "code" and kind == "causal"
    return replace(PRESETS[name][equations], neuron_site="pre_activation" if is_before else "down_input")
