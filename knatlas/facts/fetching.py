"""Fetching what is at an address into a file: over https alone, whole, and no larger than it may be."""

import hashlib
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from ipaddress import ip_address
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import SplitResult, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from knatlas.errors import AtlasError
from knatlas.progress import Report
from knatlas.redaction import redacted
from knatlas.writing import unwritable

CHUNK = 1 << 20  # bytes
SECONDS = 60  # without a byte until a download is given up


@dataclass(frozen=True)
class Source:
    """What is at an address: url; what is expected there and which keys of the row name it, in words; what to do with
    a copy where the network doesn't reach it."""

    url: str
    content: str
    keys: str
    remedy: str


@dataclass(frozen=True)
class Limit:
    """How many bytes a download may have, and in words where that is known from."""

    n_bytes: int
    reason: str

    def check(self, url: str, n_bytes: int) -> None:
        """Raise AtlasError for more bytes."""
        if n_bytes > self.n_bytes:
            raise AtlasError(f"{url} has more than {self.n_bytes} bytes, {self.reason}; nothing was kept.")


class WebRedirects(HTTPRedirectHandler):
    """Follows a redirection to https; to http only from this machine to itself."""

    def redirect_request(self, request: Request, *details: object) -> Request | None:
        """The next request; AtlasError for an address that may not be asked (the last of the details)."""
        check_address(str(details[-1]), may_be_local=is_local(urlsplit(request.full_url)))
        return super().redirect_request(request, *details)


def check_address(url: str, may_be_local: bool = True) -> None:
    """Raise AtlasError for an address that is not https, or holds a user or password, which records would repeat.

    Plain http is for this machine alone: anybody on the way could change what arrives. `may_be_local` is false where
    another machine names the address.
    """
    parts = urlsplit(url)
    if "@" in parts.netloc:
        raise AtlasError(
            f"catalog/datasets.yaml: the address {redacted(url)} holds a user or a password, which would stand in "
            "records and logs; fetch the file by hand"
        )
    if parts.scheme != "https" and not (parts.scheme == "http" and may_be_local and is_local(parts)):
        raise AtlasError(
            f"catalog/datasets.yaml: an address is '{url}'; expected one that begins with https (http only for this "
            "machine itself)."
        )


def is_local(parts: SplitResult) -> bool:
    """Whether an address is one of this machine."""
    host = parts.hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def fetch(source: Source, path: Path, limit: Limit, progress: Report) -> str:
    """Stream an address into a file; the sha256 of its bytes.

    Raises: AtlasError when it does not arrive whole, or is larger than the limit.
    """
    url = source.url
    check_address(url)
    try:
        with build_opener(WebRedirects).open(url, timeout=SECONDS) as response:
            expected = int(response.headers.get("Content-Length") or 0)
            n_bytes, sha256 = copy(response, path, expected, limit.n_bytes, progress)
    except HTTPError as error:
        raise AtlasError(
            f"{url} answered {error.code} ({error.reason}); expected {source.content}. Compare {source.keys} of the "
            "row in catalog/datasets.yaml with the page of the data set."
        ) from error
    except (OSError, HTTPException) as error:
        full_disk = unwritable(path, error)
        raise AtlasError(full_disk or no_network(source, str(error) or type(error).__name__)) from error
    limit.check(url, n_bytes)
    if n_bytes < expected:
        raise AtlasError(no_network(source, f"{n_bytes} of {expected} bytes arrived"))
    return sha256


def no_network(source: Source, reason: str) -> str:
    """The sentence for a download that failed on its way."""
    return (
        f"{source.url} could not be downloaded ({redacted(reason)}); nothing was kept. Run the workflow again where "
        f"the network reaches it, or bring a copy: {source.remedy}."
    )


def copy(response: HTTPResponse, path: Path, expected: int, largest: int, progress: Report) -> tuple[int, str]:
    """Write a response to a file, until it has more than `largest` bytes; number and sha256 of the bytes."""
    n_bytes, sha256 = 0, hashlib.sha256()
    with path.open("wb") as file:
        while n_bytes <= largest and (chunk := response.read(CHUNK)):
            file.write(chunk)
            sha256.update(chunk)
            n_bytes += len(chunk)
            # a host that does not say the length gets one that is never reached
            progress(n_bytes // CHUNK, expected // CHUNK if expected else n_bytes // CHUNK + 1, "MB")
    return n_bytes, sha256.hexdigest()
