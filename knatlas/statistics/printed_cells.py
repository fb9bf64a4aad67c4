"""Numbers as papers print them (catalog/paper_results), one cell of a printed table each."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from itertools import product

from knatlas.catalog import read_catalog
from knatlas.errors import AtlasError, unknown

PAPERS = ("amig", "matrice", "localization")


@dataclass(frozen=True)
class PrintedCell:
    """One printed number, or what the text at hand shows in its place.

    place: its name in the catalog; table, where: the printed table and the spot in or beside it; row, column: as
    printed; keys: columns of our own table and their values; value: None where it can't be read, and then `shows` is
    what the text shows; decimals: to which it is rounded; doubt: why it is not a number to chase, or empty.
    """

    paper: str
    place: str
    table: str
    where: str
    row: str
    column: str
    unit: str
    decimals: int
    value: float | None
    shows: str = ""
    doubt: str = ""
    keys: Mapping = field(default_factory=dict, hash=False)

    @property
    def is_legible(self) -> bool:
        """Whether the number can be read with certainty."""
        return self.value is not None

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and the largest number that rounds to the printed one."""
        half = 0.5 * 10.0**-self.decimals
        return self.value - half, self.value + half

    @property
    def text(self) -> str:
        """The number with the decimals that are printed; empty where it can't be read."""
        if self.value is None:
            return ""
        return f"{self.value:.{self.decimals}f}" if self.decimals <= 6 else f"{self.value:.2e}"


def paper_results(paper: str) -> dict:
    """What catalog/paper_results says of a paper: labels, models, places, checks; AtlasError for an unknown one."""
    if paper not in PAPERS:
        raise AtlasError(unknown("the paper", paper, "a paper of catalog/paper_results", PAPERS))
    return read_catalog(f"paper_results/{paper}")


def compared_tables() -> list[str]:
    """The study's tables, by file name without ".csv", that some printed number stands beside, sorted."""
    places = [place for paper in PAPERS for place in paper_results(paper)["places"].values()]
    return sorted({place["ours"]["table"] for place in places if "ours" in place})


def read_cells(paper: str, place: str | None = None) -> tuple[PrintedCell, ...]:
    """The printed numbers of a paper, or of one place of it, in the order of the catalog.

    Raises: AtlasError for a paper or place that the catalog lacks, and for a line that is not as long as its table.
    """
    places = paper_results(paper)["places"]
    if place is not None and place not in places:
        kind = "table" if place.startswith("table") else "place"
        raise AtlasError(unknown(f"the {kind} of {paper}", place, f"one of catalog/paper_results/{paper}.yaml", places))
    names = places if place is None else [place]
    return tuple(cell for name in names for cell in _cells_of(paper, name))


@cache
def _cells_of(paper: str, name: str) -> tuple[PrintedCell, ...]:
    results = paper_results(paper)
    place = results["places"][name]
    labels = {**results["labels"], **place.get("labels", {})}
    heads = [dict(zip(place["columns"], values, strict=True)) for values in product(*place["columns"].values())]
    return tuple(
        _cell(paper, name, place, labels, row, head, number)
        for row, numbers in _lines(paper, name, place, len(heads))
        for head, number in zip(heads, numbers, strict=True)
        if number is not None
    )


def _lines(paper: str, name: str, place: Mapping, n_columns: int) -> Iterator[tuple[dict, list]]:
    """The keys and the numbers of each line of a place."""
    names = place["rows"]
    for line in place["cells"]:
        if len(line) != len(names) + n_columns:
            raise AtlasError(
                f"catalog/paper_results/{paper}.yaml: {name}: the line {line} has {len(line)} entries; "
                f"expected {len(names)} for its row ({' '.join(names)}) and {n_columns} numbers. "
                "Add null where nothing is printed."
            )
        yield dict(zip(names, line, strict=False)), line[len(names) :]


def _cell(paper: str, name: str, place: Mapping, labels: Mapping, row: dict, head: dict, number: object) -> PrintedCell:
    keys = {**place.get("fixed", {}), **row, **head}
    value, shows, own = _as_typed(number)
    return PrintedCell(
        *(paper, name, place["table"], place.get("where", "")),
        *(", ".join(str(labels.get(value, value)) for value in part.values()) for part in (row, head)),
        unit=_setting(place["unit"], keys, ""),
        decimals=own.get("decimals", _decimals(value, _setting(place.get("decimals", 0), keys, 0))),
        value=value,
        shows=shows,
        doubt=own.get("doubt") or _doubt(place, keys),
        keys=keys,
    )


def _as_typed(number: object) -> tuple[float | None, str, Mapping]:
    """Value, what is shown in its place, further settings of a cell."""
    if isinstance(number, Mapping):
        return number["value"], "", number
    return (None, number, {}) if isinstance(number, str) else (number, "", {})


def _setting(setting: object, keys: Mapping, default: object) -> object:
    """A setting of a place that may differ by statistic."""
    return setting.get(keys.get("statistic"), default) if isinstance(setting, Mapping) else setting


def _decimals(value: float | None, declared: int) -> int:
    """YAML drops zeros at the end, so a place declares its decimals; a number typed with more has more."""
    return declared if value is None else max(declared, -Decimal(str(value)).as_tuple().exponent)


def _doubt(place: Mapping, keys: Mapping) -> str:
    return next((doubt["why"] for doubt in place.get("doubts", []) if is_one_of(keys, doubt["cells"])), "")


def is_one_of(keys: Mapping, wanted: Mapping) -> bool:
    """Whether the keys have the wanted values, of which a list names several."""
    return all(keys.get(name) in (value if isinstance(value, list) else [value]) for name, value in wanted.items())
