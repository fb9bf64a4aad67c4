"""The recipe of an embedded model: everything that decides its weights, but for the facts and the seed."""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields

from knatlas.errors import AtlasError, unknown

FAMILIES = {"bert": "masked", "gpt2": "causal", "llama": "causal"}
PIVOT = "en"  # dictionary sentences translate from and into this language


@dataclass(frozen=True)
class Thresholds:
    """What a trained model must reach; a gate whose threshold is None is measured and never closes."""

    accuracy: float | None = None  # share of trained queries whose answer tokens are all argmax
    ffn_share: float | None = None  # relative loss of P when the FFN is off at the prediction positions
    specificity: float | None = None  # suppression by own neurons divided by suppression of other relations' facts


@dataclass(frozen=True)
class Recipe:
    """Architecture, corpus and optimisation of one embedded model: the `recipe` mapping of catalog/models.yaml."""

    family: str  # bert, gpt2 or llama
    width: int  # hidden size
    layers: int
    heads: int
    ffn_width: int  # neurons per layer
    steps: int  # length of the cosine schedule
    learning_rate: float
    dictionary: Mapping[str, str] = field(default_factory=dict)  # language -> pattern with [X] and [Y]; empty: none
    held_out: Mapping[str, float] = field(default_factory=dict)  # language -> share of facts never answered in it
    doubled: tuple[str, ...] = ()  # languages whose fact sentences come twice
    activation: str = ""  # FFN activation; empty: the family's own
    vocabulary: int = 8000  # largest size of the tokenizer's vocabulary
    batch: int = 64  # sentences per step
    warm_up: int = 50  # steps of linear warm-up
    weight_decay: float = 0.05
    clip: float = 1.0  # largest norm of the gradient
    embedding_scale: float = 0.1  # standard deviation of one coordinate of a token embedding
    position_scale: float = 0.02  # the same of a position embedding
    embedding_rate: float = 0.3  # factor on the learning rate of the token embeddings
    value_output_scale: float = 0.5  # gain of the attention's orthogonal value and output matrices
    ffn_scale: float = 1.0  # factor on the standard deviation of the FFN's starting weights
    value_output_rate: float = 0.1  # factor on that of the attention's value and output weights; 0: frozen
    attention_from: int = 0  # first layer whose attention writes; below it a token knows itself and its position alone
    sparsity: float = 0.05  # weight of the L1 norm of the FFN activations
    trained_templates: int = 3  # templates per fact and language that are trained on
    code_switch: bool = True  # each sentence once more, with the subject named in another language
    dictionary_share: float = 0.25  # share of dictionary sentences in a batch
    longest: int = 64  # tokens that the model reads at most
    punctuation: int = 0  # sentences per punctuation mark, with the mark as the answer; needs English
    punctuation_share: float = 0.15  # share of them in a batch
    context_share: float = 0.0  # share of the fact sentences of a batch behind up to four completed ones of other facts
    masked_share: float = 0.85  # share of sentences whose answer is masked (bert)
    other_share: float = 0.15  # share of the other tokens that are predicted as well
    thresholds: Thresholds = field(default_factory=Thresholds)  # the gates that the finished model must pass

    @property
    def kind(self) -> str:
        """Kind of the model: masked or causal."""
        return FAMILIES[self.family]


def read_recipe(values: Mapping[str, object], where: str = "catalog/models.yaml: recipe") -> Recipe:
    """The recipe in a mapping.

    Raises: AtlasError, with all mistakes at once: unknown keys, missing keys, values that no training can use.
    """
    values = dict(values)
    gates = dict(values.pop("thresholds", None) or {})
    mistakes = _name_mistakes(where, values, Recipe) + _name_mistakes(f"{where}.thresholds", gates, Thresholds)
    if mistakes:
        raise AtlasError("\n".join(mistakes))
    values["doubled"] = tuple(values.get("doubled", ()))
    recipe = Recipe(**values, thresholds=Thresholds(**gates))
    if mistakes := _value_mistakes(where, recipe):
        raise AtlasError("\n".join(mistakes))
    return recipe


def recipe_in(values: Mapping[str, object], languages: Sequence[str]) -> dict[str, object]:
    """The recipe's mapping without what it says of other languages, which changes no weight."""
    recipe = dict(values)
    for key in ("held_out", "dictionary"):
        if key in recipe:
            recipe[key] = {language: part for language, part in recipe[key].items() if language in languages}
    if "doubled" in recipe:
        recipe["doubled"] = [language for language in recipe["doubled"] if language in languages]
    return recipe


def missing_patterns(dictionary: Mapping[str, str], languages: Sequence[str]) -> list[str]:
    """The languages that dictionary sentences are wanted in and that have no pattern; none without a dictionary.

    Sentences translate from and into the pivot language, so there are none without it, or in it alone.
    """
    is_used = bool(dictionary) and PIVOT in languages and len(languages) > 1
    return [language for language in languages if is_used and language not in dictionary]


def _name_mistakes(where: str, values: Mapping[str, object], record: type) -> list[str]:
    """One sentence per unknown key and per key that has no default and is absent."""
    known = {item.name: item for item in fields(record)}
    needed = [name for name, item in known.items() if item.default is MISSING and item.default_factory is MISSING]
    mistakes = [unknown(f"{where}: key", key, "a key of a recipe", known) for key in values if key not in known]
    return mistakes + [f"{where} lacks '{name}'; add it." for name in needed if name not in values]


def _value_mistakes(where: str, recipe: Recipe) -> list[str]:
    """One sentence per value that no training can use."""
    mistakes = []
    if recipe.family not in FAMILIES:
        mistakes.append(unknown(f"{where}.family", recipe.family, "a family", FAMILIES))
    if recipe.width % (2 * recipe.heads):
        mistakes.append(f"{where}.width is {recipe.width}; expected a multiple of 2 x heads ({2 * recipe.heads}).")
    for name in ("layers", "ffn_width", "steps", "batch", "trained_templates", "longest"):
        if getattr(recipe, name) < 1:
            mistakes.append(f"{where}.{name} is {getattr(recipe, name)}; expected a whole number of at least 1.")
    if not 0 <= recipe.attention_from < recipe.layers:
        mistakes.append(
            f"{where}.attention_from is {recipe.attention_from}; expected a layer from 0 to {recipe.layers - 1}."
        )
    mistakes += _share_mistakes(where, recipe)
    for language, share in recipe.held_out.items():
        if not 0 <= share < 1:
            mistakes.append(f"{where}.held_out.{language} is {share}; expected a share from 0 to less than 1.")
    for language, pattern in recipe.dictionary.items():
        if pattern.count("[X]") != 1 or pattern.count("[Y]") != 1:
            mistakes.append(f"{where}.dictionary.{language} is '{pattern}'; expected exactly one [X] and one [Y].")
    return mistakes


def _share_mistakes(where: str, recipe: Recipe) -> list[str]:
    """One sentence per part of a batch that is no share, or that leaves no room for facts."""
    mistakes = []
    if recipe.punctuation < 0:
        mistakes.append(f"{where}.punctuation is {recipe.punctuation}; expected a whole number of at least 0.")
    for name in ("dictionary_share", "punctuation_share", "context_share"):
        if not 0 <= getattr(recipe, name) < 1:
            mistakes.append(f"{where}.{name} is {getattr(recipe, name)}; expected a share from 0 to less than 1.")
    others = recipe.dictionary_share + recipe.punctuation_share
    if not mistakes and others >= 1:
        mistakes.append(
            f"{where}: dictionary_share and punctuation_share are {others:g} together; expected less than 1."
        )
    return mistakes
