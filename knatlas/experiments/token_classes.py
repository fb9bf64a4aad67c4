"""The classes of tokens that causal tracing averages over: where a token stands to the subject and to the answer."""

from collections.abc import Iterable, Sequence

FIRST, MIDDLE, LAST_OF_SUBJECT = "first_subject", "middle_subject", "last_subject"
# The paper's classes, in the order of a prompt that begins with its subject.
TOKEN_CLASSES = (FIRST, MIDDLE, LAST_OF_SUBJECT, "first_after", "further", "last")
BEFORE, SPECIAL = "before_subject", "special"


def token_classes(n_tokens: int, own: Iterable[int], subject: Sequence[int], read: int) -> list[str]:
    """The class of each of `n_tokens` positions.

    `last`, the position that predicts the answer's first token, also where it is the subject's; the only token of a
    subject is `last_subject`; `first_after`, the query's first token after the subject; `further`, those after it;
    `before_subject`, those before the subject, which the paper has no class for; `special`, tokens that aren't the
    query's own (of the tokenizer, further masks, tokens of the answer), which averages leave out.

    Args: own, positions of the query's own tokens; subject, ascending positions of the subject; read, the position that
    predicts the answer's first token.
    """
    own = set(own)
    after = [i for i in sorted(own) if i > subject[-1]]
    classes = [SPECIAL] * n_tokens
    for i in own & set(range(n_tokens)):
        classes[i] = BEFORE if i < subject[0] else "further" if i not in after[:1] else "first_after"
    for i in subject:
        classes[i] = MIDDLE
    classes[subject[0]], classes[subject[-1]] = FIRST, LAST_OF_SUBJECT
    classes[read] = "last"
    return classes
