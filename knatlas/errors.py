"""Errors that a user can mend: each says what, where, the value, what is allowed, the nearest match, what to do."""

from collections.abc import Iterable
from difflib import get_close_matches


class AtlasError(Exception):
    """A mistake in the input of a study; the message is a sentence (or a list of sentences) for the user."""


def nearest(value: object, allowed: Iterable[object]) -> str:
    """The allowed name most like `value`, as " Did you mean 'x'?", or an empty string when nothing is similar."""
    names = {str(name).lower(): str(name) for name in allowed}
    match = get_close_matches(str(value).lower(), names, n=1, cutoff=0.5)
    return f" Did you mean '{names[match[0]]}'?" if match else ""


def unknown(where: str, value: object, expected: str, allowed: Iterable[object], remedy: str = "") -> str:
    """A sentence for a name that is not one of `allowed`.

    >>> unknown("config.yaml: languages[2]", "jp", "a language of the catalog", ["en", "ja"])
    "config.yaml: languages[2] is 'jp'; expected a language of the catalog (en ja). Did you mean 'ja'?"
    """
    allowed = [str(name) for name in allowed]
    sentence = f"{where} is '{value}'; expected {expected} ({' '.join(allowed)}).{nearest(value, allowed)}"
    return f"{sentence} {remedy}".rstrip()
