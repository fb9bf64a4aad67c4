"""What every editor takes and gives: a request to replace one object by another, and the edit that shall do it."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np

from knatlas.errors import AtlasError, unknown
from knatlas.interventions.weights import ValueEdit, edited_values
from knatlas.models.language_model import LanguageModel

SLOT = "{}"  # stands for the subject in the prompt of a request
# what follows the answer of a prompt that ends where the answer comes
AFTER = {"masked": " .", "causal": ""}


@dataclass(frozen=True)
class EditRequest:
    """One fact and the object that shall replace its own.

    prompt: one `{}` for the subject, ends where the answer comes, as in "The mother tongue of {} is"; targets have no
    blank around them; case, a name for messages and tables. Raises: AtlasError for anything else.
    """

    prompt: str
    subject: str
    target_true: str
    target_new: str
    case: str = ""

    def __post_init__(self) -> None:
        if self.prompt.count(SLOT) != 1:
            raise AtlasError(
                f"{self.where}: the prompt '{self.prompt}' has {self.prompt.count(SLOT)} places for the subject; it "
                f"needs one, written {SLOT}"
            )
        for name in ("subject", "target_true", "target_new"):
            text = getattr(self, name)
            if not text or text != text.strip():
                raise AtlasError(
                    f"{self.where}: {name} is '{text}'; expected a text without blanks around it. Remove them, or "
                    "leave the request out"
                )

    @property
    def where(self) -> str:
        """The request as error messages name it."""
        return f"request '{self.case}'" if self.case else "request"

    @property
    def text(self) -> str:
        """The prompt with the subject, as far as the answer, without a blank at the end."""
        return self.prompt.replace(SLOT, self.subject).rstrip()


def prompt_of(request: EditRequest | str, answer: str, kind: str) -> SimpleNamespace:
    """A row for `encode_prompt`: a request's prompt, or any text that ends where the answer comes, with an answer.

    Args: kind "causal" or "masked", in which a full stop follows the answer. Raises: AtlasError for another kind.
    """
    if kind not in AFTER:
        raise AtlasError(unknown("kind of model", kind, "a kind of model", AFTER))
    is_request = isinstance(request, EditRequest)
    before, name = (request.text, request.where) if is_request else (request.rstrip(), f"of prompt '{request}'")
    place = {"fact": name, "language": "of the request", "query": 0}
    return SimpleNamespace(before=before, separator=" ", answer=answer, after=AFTER[kind], kind=kind, **place)


@dataclass(frozen=True, eq=False)
class Edit:
    """What an editor wants changed: value vectors, always by `ValueEdit`.

    n_neurons: neurons whose value vectors change, 0 for an edit that changes nothing; layer, the one that was edited,
    None where there are none or several; details, numbers that an editor wants kept (losses, norms).
    """

    values: tuple[ValueEdit, ...]
    n_neurons: int
    layer: int | None
    details: Mapping[str, float] = field(default_factory=dict)


Editor = Callable[[LanguageModel, EditRequest], Edit]


def edit_of(values: ValueEdit | None, details: Mapping[str, float] | None = None) -> Edit:
    """The Edit of one ValueEdit; of None, or of one without neurons, the edit that changes nothing."""
    if values is None or len(values.layers) == 0:
        return Edit((), 0, None, details or {})
    places = np.unique(np.stack([np.asarray(values.layers), np.asarray(values.indices)]), axis=1)
    layers = np.unique(places[0])
    return Edit((values,), places.shape[1], int(layers[0]) if len(layers) == 1 else None, details or {})


@contextmanager
def edited(lm: LanguageModel, edit: Edit) -> Iterator[None]:
    """Inside the block the model is edited; after it, also by an exception, every weight has its old bits again.

    Raises: AtlasError as `edited_values` does.
    """
    with edited_values(lm, edit.values):
        yield
