"""What came of a case, and the table of all."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .compare import differences, digests, litter, recomputed
from .copies import Copy

HEAD = ["case", "seed", "moment", "what", "results finished before", "jobs after", "recomputed without need"]
HEAD += ["left over", "identical"]


@dataclass
class Outcome:
    """One case. moment: share of the uninterrupted run; problems: what else was not as it must be, in sentences."""

    case: str
    seed: int | None
    what: str
    moment: str = "-"
    n_finished: int = 0
    jobs: Counter = field(default_factory=Counter)
    recomputed: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    litter: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0
    skipped: str = ""

    @property
    def is_good(self) -> bool:
        """Whether results are identical, nothing was computed without need, and nothing else went wrong."""
        return not (self.recomputed or self.differences or self.problems)

    def require(self, is_so: bool, sentence: str) -> None:
        """Note a problem unless something is so."""
        if not is_so:
            self.problems.append(sentence)

    def row(self) -> list[str]:
        """Its row of the table."""
        if self.skipped:
            return [self.case, "-", "-", self.skipped, *["-"] * 5]
        seed = "-" if self.seed is None else str(self.seed)
        counts = [str(self.n_finished), str(self.jobs.total()), str(len(self.recomputed)), str(len(self.litter))]
        return [self.case, seed, self.moment, self.what, *counts, "no" if self.differences else "yes"]

    def details(self) -> str:
        """Why it is not good, in lines."""
        parts = {"recomputed without need": self.recomputed, "not identical": self.differences, "": self.problems}
        return "\n".join(f"  {title}{': ' if title else ''}{line}" for title, lines in parts.items() for line in lines)


def note_recomputed(outcome: Outcome, copy: Copy, before: dict) -> None:
    """Note which results that were finished `before` a run were written again by it."""
    outcome.recomputed += [str(path.relative_to(copy.folder)) for path in recomputed(before)]


def judge_end(outcome: Outcome, copy: Copy, expected: dict[str, str]) -> None:
    """Compare the finished results with those of the uninterrupted run, and ask whether anything is left to do."""
    outcome.differences += differences(digests(copy.results), expected)
    outcome.litter += litter(copy.results)
    left = copy.what_is_left()
    outcome.require(not left, f"a dry run would still start {dict(left)}")


def markdown(outcomes: Sequence[Outcome]) -> str:
    """The table of all cases."""
    rows = [HEAD, ["---"] * len(HEAD), *(outcome.row() for outcome in outcomes)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def report_problem(outcome: Outcome, folder: Path) -> str:
    """The lines about a case that went wrong, with the folder that is kept."""
    return f"FAILED {outcome.case} {outcome.what}; its folder is kept: {folder}\n{outcome.details()}"
