"""How a job ends that did not finish: the sentence for the terminal, where there is one, and the line for the log."""

import signal
from collections.abc import Mapping
from types import FrameType

from knatlas.errors import AtlasError


class Stopped(SystemExit):
    """A job was told to end by a signal; its code is the shell's: 128 and the signal's number."""

    def __init__(self, number: int):
        self.signal = signal.Signals(number)
        super().__init__(128 + number)


def stop(number: int, frame: FrameType | None) -> None:
    """A handler of signals that ends the job as an error does, so that its temporary files are removed."""
    raise Stopped(number)


INTERRUPTS = (KeyboardInterrupt, Stopped)


def code_of(error: BaseException) -> int:
    """The code with which a job exits that ends with a sentence."""
    if isinstance(error, Stopped):
        return error.code
    return 128 + signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1


def sentence_of(error: BaseException, rule: str, resources: Mapping[str, object]) -> str | None:
    """What the user reads on the terminal; None for an error that is a mistake of the program."""
    if isinstance(error, AtlasError):
        return str(error)
    if isinstance(error, INTERRUPTS):
        return f"stopped by {stopped_by(error)}; run the same command again: what is finished stays"
    return _memory_sentence(error, rule, resources) if _is_out_of_memory(error) else None


def stopped_by(error: BaseException) -> str:
    """The signal that ended a job, in words."""
    number = error.signal if isinstance(error, Stopped) else signal.SIGINT
    causes = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "by hand, or by the cluster: time limit, cancelled, node lost"}
    return f"{number.name} ({causes.get(number, 'sent from outside')})"


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether memory was short, of the processor or of a GPU. By name: torch is not imported to find out."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(names & {"MemoryError", "OutOfMemoryError"}) or "can't allocate memory" in str(error)


def _memory_sentence(error: BaseException, rule: str, resources: Mapping[str, object]) -> str:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    asked = ", ".join(f"{name} {resources[name]}" for name in ("batch_rows", "mem_mb") if resources.get(name))
    had = f" The job had {asked}." if asked else ""
    fewer = "set compute.batch_rows lower (fewer rows per pass), or " if "batch_rows" in resources else ""
    return f"memory was too short ({reason}).{had} To mend it, {fewer}give it more: --set-resources {rule}:mem_mb=N"
