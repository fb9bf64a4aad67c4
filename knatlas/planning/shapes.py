"""The shapes of a study's models before any weights are there."""

from collections.abc import Mapping
from pathlib import Path

from knatlas.attribution.footprint import n_parameters
from knatlas.attribution.shape import GATED, MASKED, ModelShape, shape_of
from knatlas.errors import AtlasError
from knatlas.storage import read_json

# sizes of the guessed shape of a model of which only the number of parameters is known
GUESSED_VOCABULARY, GUESSED_HEAD = 50_000, 64


def model_shape(record: Mapping, results: Path, name: str) -> tuple[ModelShape, str]:
    """The shape of a model, and a sentence on where it comes from where it is a guess (else empty).

    Args: record, the model's row of the catalog or of additional_models; results, the study's folder.
    The first that is there counts: the config.json of the model's folder, `shape` of the row, its recipe, and its
    parameters_millions.
    """
    folder = _folder(record, results, name)
    if folder is not None and (folder / "config.json").is_file():
        return shape_of(read_json(folder / "config.json")), ""
    if "shape" in record:
        return catalog_shape(record["shape"], record["kind"], f"catalog/models.yaml: {name}.shape"), ""
    if "recipe" in record:
        return _recipe_shape(record["recipe"]), ""
    millions = record.get("parameters_millions", 1000)
    sentence = f"{name}: only its size is known, {millions:g} million parameters; taken as a plain model of that size"
    return guessed_shape(record["kind"], 1e6 * millions), sentence


def _folder(record: Mapping, results: Path, name: str) -> Path | None:
    """The folder that holds a model's config.json, if the study has found it, or names it."""
    source = results / "models" / name / "source.json"
    if source.is_file():
        return Path(read_json(source)["folder"])
    return Path(record["folder"]) if record.get("origin") == "folder" else None


def catalog_shape(values: Mapping, kind: str, where: str = "shape") -> ModelShape:
    """A shape from its row: layers, hidden, neurons, vocabulary, heads; kv_heads, head_dim, gated and tied if unusual.

    Raises: AtlasError for a missing or an unknown key.
    """
    needed, others = ("layers", "hidden", "neurons", "vocabulary", "heads"), ("kv_heads", "head_dim", "gated", "tied")
    missing = [key for key in needed if key not in values]
    extra = [key for key in values if key not in (*needed, *others)]
    if missing or extra:
        raise AtlasError(f"{where}: missing keys {missing}, unknown keys {extra}; expected {' '.join(needed)}.")
    return ModelShape(
        kind=kind,
        n_layers=values["layers"],
        hidden=values["hidden"],
        neurons=values["neurons"],
        vocabulary=values["vocabulary"],
        heads=values["heads"],
        kv_heads=values.get("kv_heads", values["heads"]),
        head_dim=values.get("head_dim", values["hidden"] // values["heads"]),
        is_gated=values.get("gated", False),
        is_tied=values.get("tied", True),
        has_head_transform=kind == "masked",
    )


def _recipe_shape(recipe: Mapping) -> ModelShape:
    """The shape of a model that the workflow trains; its vocabulary is at most that of the recipe."""
    values = {"layers": recipe["layers"], "hidden": recipe["width"], "neurons": recipe["ffn_width"]}
    values |= {"vocabulary": recipe.get("vocabulary", 8000), "heads": recipe["heads"]}
    values["gated"] = recipe["family"] in GATED
    return catalog_shape(values, "masked" if recipe["family"] in MASKED else "causal")


def guessed_shape(kind: str, parameters: float) -> ModelShape:
    """The smallest plain transformer with at least so many parameters, as many layers as heads of 64."""
    heads = 2
    while True:
        hidden = GUESSED_HEAD * heads
        values = {"layers": heads, "hidden": hidden, "neurons": 4 * hidden, "heads": heads}
        shape = catalog_shape({**values, "vocabulary": GUESSED_VOCABULARY}, kind)
        if n_parameters(shape) >= parameters:
            return shape
        heads += 1
