"""What the commands of the benchmarks share."""

import sys
from collections.abc import Callable

from knatlas.errors import AtlasError


def say_errors(main: Callable[[], None]) -> None:
    """Run a command; a mistake of its user ends it with the sentence alone."""
    try:
        main()
    except AtlasError as error:
        sys.exit(str(error))
