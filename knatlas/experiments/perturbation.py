"""P(answer) when word embeddings are noisy: the word-embedding perturbation test of the localization paper (5.4).

`input_only` adds independent noise to each token's word embedding, as the paper describes. `tied_matrix` adds one draw
of noise per fact to the embedding matrix, as the released code does: a word has the same noise wherever it stands, and
where the output matrix is the same matrix the head has it too. `head_only` is the control with a clean input.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from knatlas.errors import AtlasError
from knatlas.experiments.noisy_answers import Answer, Level, NoisyAnswers
from knatlas.facts.sampling import first_queries
from knatlas.interventions.embedding_noise import READINGS, check_reading, is_tied, mean_size, printed_sigma
from knatlas.models.answers import BATCH_ROWS
from knatlas.models.encoding import encode_prompts
from knatlas.models.language_model import LanguageModel
from knatlas.progress import Report, silent

PRINTED = "printed"
BY_POSITION = "input_only"
COLUMNS = [
    *("model", "fact", "relation", "language", "query"),
    *("reading", "level", "sigma", "relative_sigma", "printed_sigma", "is_tied", "draw"),
    *("p_clean", "p_noisy", "p_first_clean", "p_first_noisy", "is_right_clean", "is_right_noisy"),
]


@dataclass(frozen=True)
class Perturbation:
    """Which noise is put on which facts.

    readings, among `READINGS`; relative, noise levels as multiples of mean|E|, beside the printed one; n_draws of the
    noise; max_facts, at most so many, spread over the relations; max_queries, the first so many of each fact (None:
    all). Raises: AtlasError for another reading, no or repeated levels, one that is not above 0, or counts below 1.
    """

    readings: Sequence[str] = READINGS
    relative: Sequence[float] = (0.1, 0.25, 0.5, 1.0)
    n_draws: int = 3
    max_facts: int | None = None
    max_queries: int | None = None

    def __post_init__(self) -> None:
        for reading in self.readings:
            check_reading(reading)
        names = [f"{level:g}" for level in self.relative]
        if not names or not all(level > 0 for level in self.relative) or len({*names}) < len(names):
            raise AtlasError(
                f"perturbation.relative is {list(self.relative)}; expected different multiples of mean|E|, all above 0"
            )
        for name in ("n_draws", "max_facts", "max_queries"):
            count = getattr(self, name)
            if count is not None and count < 1:
                raise AtlasError(f"perturbation.{name} is {count}; expected at least 1")


def perturb(
    lm: LanguageModel,
    prompts: pd.DataFrame,
    settings: Perturbation,
    seed: int = 0,
    progress: Report = silent,
    batch_rows: int = BATCH_ROWS,
) -> pd.DataFrame:
    """Measure P(answer) with clean and with noisy embeddings, one row per query, reading, level and draw.

    Noise is on every token of the input, also on special ones and on the right answer's tokens that stand before the
    predicted one. P is the product over the answer's tokens; p_first, that of the first token, is what the paper takes
    for GPT-2. Levels and draws as in `noise_levels` and `NoisyAnswers`.

    Cost: a forward row per measurement. In a tied model (`tied_matrix`) and in `head_only` each fact and draw also
    takes as many random numbers as the matrix has entries, on a processor more than half a second for GPT-2's 39
    million, and their product with the final hidden states, as much work as the head's own.

    Args: prompts, of which those of the model's kind count; batch_rows, speed and memory only.
    Returns: COLUMNS. is_tied, one matrix is input embedding and output matrix, so that `tied_matrix` hits the head;
    printed_sigma, what the printed rule gives for the matrix (0: the level `printed` has no noise and no rows).
    """
    of_kind = prompts[prompts["kind"] == lm.kind]
    chosen = first_queries(of_kind, settings.max_facts, settings.max_queries, seed).reset_index(drop=True)
    queries, levels = encode_prompts(lm, chosen), noise_levels(lm, settings)
    total = len(queries) * len(levels) * settings.n_draws
    run = NoisyAnswers(lm, queries, settings.n_draws, seed, batch_rows, progress, total)
    clean = run.clean()
    noisy = run.by_position([level for level in levels if level.reading == BY_POSITION])
    noisy |= run.by_word([level for level in levels if level.reading != BY_POSITION])
    rows = [(*key, clean[key[0]], answer) for key, answer in noisy.items()]
    return _table(lm, chosen, levels, rows)


def noise_levels(lm: LanguageModel, settings: Perturbation) -> list[Level]:
    """The levels of every reading, the printed one first; that one is left out where the rule cuts it off to 0.

    sigma is a multiple of mean|E| of the matrix that the reading adds noise to.
    """
    levels = []
    for reading in dict.fromkeys(settings.readings):
        size = mean_size(lm, reading)
        printed = printed_sigma(size)
        sigmas = {PRINTED: printed} if printed > 0 else {}
        sigmas |= {f"{share:g}": share * size for share in settings.relative}
        levels += [Level(reading, name, sigma, sigma / size, printed) for name, sigma in sigmas.items()]
    return levels


def _table(
    lm: LanguageModel,
    prompts: pd.DataFrame,
    levels: Sequence[Level],
    rows: Sequence[tuple[int, Level, int, Answer, Answer]],
) -> pd.DataFrame:
    """COLUMNS, by level, draw and query."""
    place = {level: i for i, level in enumerate(levels)}
    ordered = sorted(rows, key=lambda row: (place[row[1]], row[2], row[0]))
    numbers = [row[0] for row in ordered]
    names = ["p", "p_first", "is_right"]
    parts = [
        prompts.iloc[numbers][["fact", "relation", "language", "query"]].reset_index(drop=True),
        pd.DataFrame([row[1] for row in ordered], columns=Level._fields),
        pd.DataFrame([row[3] for row in ordered], columns=[f"{name}_clean" for name in names]),
        pd.DataFrame([row[4] for row in ordered], columns=[f"{name}_noisy" for name in names]),
    ]
    table = pd.concat(parts, axis=1).assign(model=lm.name, is_tied=is_tied(lm), draw=[row[2] for row in ordered])
    return table[COLUMNS]
