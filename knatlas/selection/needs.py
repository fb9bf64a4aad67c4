"""Which scores each selection reads. No other module is imported: the configuration is checked with it."""

from collections.abc import Mapping

# Selection -> arrays "{method}.{statistic}"; random controls read the sets of their reference only.
NEEDS: Mapping[str, tuple[str, ...]] = {
    "bkn": ("bkn.first",),
    "refined": ("bkn.share",),
    "amig": ("amig.first",),
    "likn": ("amig.first",),
    "matrice": ("saig.mean", "saig.std"),
    "matrice_without_query_uncertainty": ("saig.first",),
    "matrice_without_language_uncertainty": ("saig.mean", "saig.std"),
}
# Those that normalise over languages by Eq. 9 of MATRICE.
NORMALISED = ("matrice", "matrice_without_query_uncertainty")


def methods_of(selection: str) -> list[str]:
    """The attribution methods whose scores a selection reads."""
    return sorted({name.split(".")[0] for name in NEEDS.get(selection, ())})
