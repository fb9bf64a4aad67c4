"""kill -9 at a random moment, of Snakemake alone, of a script alone, of everything; then the same command again."""

import random
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from knatlas.storage import read_json, read_metadata
from tests.workflow.conftest import planned_jobs

from .compare import RECORD, finished
from .copies import Copy, Run
from .outcome import Outcome, judge_end, note_recomputed


def kill_everything(run: Run, draw: random.Random) -> None:
    """Snakemake and its scripts at once, as when a machine stops."""
    run.kill_group()


def kill_snakemake_and_wait(run: Run, draw: random.Random) -> None:
    """Snakemake alone; its scripts go on as orphans, and the user waits for them."""
    run.kill()
    run.wait_for_orphans()


def kill_snakemake_then_scripts(run: Run, draw: random.Random) -> None:
    """Snakemake alone; the user finds the orphans and ends them as well."""
    run.kill()
    run.kill_group()


def kill_snakemake_only(run: Run, draw: random.Random) -> None:
    """Snakemake alone; the same command is typed while its scripts still write."""
    run.kill()


def kill_script(run: Run, draw: random.Random) -> None:
    """One script; Snakemake goes on, says which rule failed, and ends with an error."""
    while not (scripts := run.scripts()) and run.is_running_at(run.seconds + 0.02):
        pass
    if scripts:
        draw.choice(scripts).kill()
    run.wait()


def press_ctrl_c(run: Run, draw: random.Random) -> None:
    """Ctrl-C: SIGINT to all, not a kill; Snakemake removes what is unfinished."""
    run.kill_group(signal.SIGINT)


KILLS: dict[str, Callable[[Run, random.Random], None]] = {
    "everything": kill_everything,
    "Snakemake, orphans waited for": kill_snakemake_and_wait,
    "a script": kill_script,
    "Snakemake, orphans killed": kill_snakemake_then_scripts,
    "Snakemake, orphans go on": kill_snakemake_only,
    "Ctrl-C": press_ctrl_c,
}
# how often a run is killed; drawn for each seed
TIMES = [1, 1, 2, 3]
MOST_ATTEMPTS = 4


def kill_and_resume(
    copy: Copy, seed: int, duration: float, expected: dict[str, str], n_attempts: int = MOST_ATTEMPTS
) -> Outcome:
    """Kill a run once or several times, start the same command again after each, and judge the end.

    Args: copy, in which nothing is computed; seed, decides what is killed, how often and when; duration of the
    uninterrupted run in seconds; expected, digests of its results; n_attempts, how often a run that ends before it can
    be killed is started from nothing, with earlier moments.
    """
    draw = random.Random(seed)
    what = list(KILLS)[seed % len(KILLS)]
    outcome, moments, before, left = Outcome("kill", seed, what), [], {}, duration
    for _ in range(draw.choice(TIMES)):
        moment = draw.uniform(0, left)
        run = copy.start()
        if not is_killed(run, moment, what, draw):
            outcome.jobs += planned_jobs(run.text)
            break
        moments.append(f"{(duration - left + moment) / duration:.0%}")
        note_recomputed(outcome, copy, before)
        before, left = finished(copy.folder, copy.results), left - moment
        copy.unlock()
    if not moments and n_attempts > 1:
        copy.forget()
        return kill_and_resume(copy, seed, 0.9 * run.seconds, expected, n_attempts - 1)
    outcome.require(bool(moments), "every run ended before it could be killed")
    outcome.moment, outcome.n_finished = ", ".join(moments), len(before)
    outcome.jobs += resume(copy, outcome, before)
    for run in copy.runs:
        run.wait_for_orphans()
    judge_end(outcome, copy, expected)
    return outcome


def is_killed(run: Run, moment: float, what: str, draw: random.Random) -> bool:
    """Kill a run so many seconds after its start; whether that kept it from its end."""
    if run.is_running_at(moment):
        KILLS[what](run, draw)
    return run.wait() != 0


def resume(copy: Copy, outcome: Outcome, before: dict) -> Counter:
    """The same command, to its end: jobs by rule that it ran. Notes what was computed without need."""
    run = copy.start()
    if run.wait() != 0:
        outcome.problems.append(f"the same command failed afterwards:\n{run.text[-3000:]}")
        return Counter()
    note_recomputed(outcome, copy, before)
    return planned_jobs(run.text)


def kill_in_a_shard(copy: Copy, expected: dict[str, str]) -> Outcome:
    """Kill a run right after a shard has kept its first batch: what is there must be read, not computed again."""
    run = copy.start()
    while not kept_batches(copy) and run.is_running_at(run.seconds + 0.002):
        pass
    run.kill_group()
    kept = kept_batches(copy)
    n_kept = sum(queries_of(path) for path in kept)
    before = finished(copy.folder, copy.results)
    outcome = Outcome("kill", None, "a shard, after its first batch", n_finished=len(before))
    copy.unlock()
    outcome.jobs = resume(copy, outcome, before)
    records = copy.results.glob(f"attribution/*/*/*.safetensors{RECORD}")
    n_reread = sum(read_json(path)["resumed_queries"] for path in records)
    outcome.what += f": {n_kept} queries were kept, {n_reread} reread"
    outcome.require(0 < n_reread == n_kept, "what the killed shard had kept was not reread")
    judge_end(outcome, copy, expected)
    return outcome


def kept_batches(copy: Copy) -> list[Path]:
    """The batches that unfinished shards have kept."""
    return sorted(copy.results.glob("attribution/*/*/*.partial/[!.]*.safetensors"))


def queries_of(path: Path) -> int:
    """Number of queries in a kept batch."""
    facts = read_metadata(path)["rows"]
    return sum(len({(row["language"], row["query"]) for row in rows}) for rows in facts)
