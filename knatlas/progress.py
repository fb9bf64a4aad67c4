"""Progress of long work: a bar on a terminal, plain lines in the log."""

import sys
import time
from collections.abc import Callable

from tqdm import tqdm

Report = Callable[[int, int, str], None]


def silent(done: int, total: int, message: str = "") -> None:
    """A progress report for callers who want none."""


class Progress:
    """Call it with (done, total, message): a bar with rate and time left on a terminal, lines in the log."""

    def __init__(self, title: str, log: Callable[[str], None], seconds_between_lines: float = 5.0):
        self.title, self.log, self.between = title, log, seconds_between_lines
        self.start = self.last = time.monotonic()
        self.bar: tqdm | None = None

    def __call__(self, done: int, total: int, message: str = "") -> None:
        """Say that `done` of `total` are finished."""
        self._draw(done, total, message)
        now = time.monotonic()
        if done >= total or now - self.last >= self.between:
            self.last = now
            self.log(self._line(done, total, message, now - self.start))

    def close(self) -> None:
        """Remove the bar."""
        if self.bar is not None:
            self.bar.close()

    def _draw(self, done: int, total: int, message: str) -> None:
        if self.bar is None:
            self.bar = tqdm(total=total, desc=self.title, disable=not sys.stderr.isatty(), leave=False)
        self.bar.total = total
        self.bar.set_postfix_str(message, refresh=False)
        self.bar.update(done - self.bar.n)

    def _line(self, done: int, total: int, message: str, seconds: float) -> str:
        rate = done / seconds if seconds else 0.0
        left = f"{(total - done) / rate:.0f} s left" if rate else "time left unknown"
        return f"{self.title}: {done} of {total}, {rate:.3g} per second, {left} {message}".rstrip()
