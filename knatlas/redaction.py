"""Secrets that must not be written down: tokens of the environment, and whatever looks like one in a text."""

import os
import re
import sys
import traceback

HIDDEN = "***"
# the variables that huggingface_hub and the tools around it read a token from
VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACE_TOKEN", "HF_API_TOKEN", "HUGGINGFACEHUB_API_TOKEN")
SHORTEST = 6  # characters: a shorter value would hide ordinary words
PATTERNS = (
    # a token of the Hugging Face hub, wherever it was read from
    re.compile(r"\bhf_[A-Za-z0-9]{30,}"),
    # what follows the name of a scheme in a request's header
    re.compile(r"(?<=Bearer )[^\s'\"]+", re.IGNORECASE),
    # user and password in an address, such as a proxy's
    re.compile(r"(?<=://)[^\s/@'\"]+(?=@)"),
)


def redacted(text: str) -> str:
    """The text with `***` in place of every secret: values of the variables, tokens, passwords in addresses.

    >>> redacted("GET https://me:word@proxy.org with Bearer abcdef")
    'GET https://***@proxy.org with Bearer ***'
    """
    for secret in _secrets():
        text = text.replace(secret, HIDDEN)
    for pattern in PATTERNS:
        text = pattern.sub(HIDDEN, text)
    return text


def hide_in_tracebacks() -> None:
    """Let Python print the traceback of an error that nobody handles without its secrets."""
    sys.excepthook = lambda kind, error, trace: print(
        redacted("".join(traceback.format_exception(error))), end="", file=sys.stderr
    )


def _secrets() -> list[str]:
    """The secrets of the environment, longest first: one may be a part of another."""
    values = {os.environ.get(name, "").strip() for name in VARIABLES}
    return sorted((value for value in values if len(value) >= SHORTEST), key=len, reverse=True)
