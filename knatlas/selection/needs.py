"""Which scores each selection reads. No other module is imported: the configuration is checked with it."""

from collections.abc import Mapping

# Selection -> arrays "{method}.{statistic}"; random controls read the sets of their reference only.
NEEDS: Mapping[str, tuple[str, ...]] = {
    "bkn": ("bkn.first",),
    "refined": ("bkn.share",),
    "amig": ("amig.first",),
    "likn": ("amig.first",),
    "dkn": ("amig.first",),
    "matrice": ("saig.mean", "saig.std"),
    "matrice_leave_language_out": ("saig.mean", "saig.std"),
    "matrice_without_query_uncertainty": ("saig.first",),
    "matrice_without_language_uncertainty": ("saig.mean", "saig.std"),
    "matrice_without_query_uncertainty_matched": ("saig.first", "saig.mean", "saig.std"),
    "matrice_without_language_uncertainty_matched": ("saig.mean", "saig.std"),
}
# Those that are searched with the model, by an experiment of their own.
SEARCHED = ("dkn",)
# Those that normalise over languages by Eq. 9 of MATRICE.
NORMALISED = (
    "matrice",
    "matrice_leave_language_out",
    "matrice_without_query_uncertainty",
    "matrice_without_query_uncertainty_matched",
    "matrice_without_language_uncertainty_matched",  # as many neurons as MATRICE selects
)


def methods_of(selection: str) -> list[str]:
    """The attribution methods whose scores a selection reads."""
    return sorted({name.split(".")[0] for name in NEEDS.get(selection, ())})
