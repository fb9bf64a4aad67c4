"""How fast devices are: the rows of catalog/rates.yaml, each measured or assumed."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from knatlas.catalog import read_catalog
from knatlas.errors import AtlasError, unknown


@dataclass
class Rates:
    """The rates of one class of devices; which of them were asked for is remembered, so that a plan can say them.

    device: "cpu" (one core) or "gpu". dtype of the study's models.
    """

    device: str
    dtype: str
    table: Mapping = field(default_factory=lambda: read_catalog("rates"))
    used: dict[tuple[str, str], Mapping] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises: AtlasError for an unknown device."""
        if self.device not in self.table:
            raise AtlasError(unknown("The device of a plan", self.device, "a class of catalog/rates.yaml", self.table))

    def __call__(self, what: str) -> float:
        """The value of a rate for the study's dtype, in the unit of its row."""
        rows = self.table[self.device]["rates"][what]
        row = rows.get(self.dtype, rows.get("any"))
        if row is None:
            raise AtlasError(f"catalog/rates.yaml: {self.device}.rates.{what} has no row for {self.dtype}; add one.")
        self.used[self.device, what] = row
        return float(row["value"])

    @property
    def memory_gb(self) -> float:
        """Memory of the device, GB; 0 for a processor."""
        return float(self.table[self.device]["memory_gb"])

    def on(self, device: str) -> "Rates":
        """The rates of another class, remembered together with these; float32, as in jobs that run no model."""
        return Rates(device, "float32", self.table, self.used)

    def sentences(self) -> list[str]:
        """One sentence per class of devices, and one per rate that was asked for, assumptions first."""
        devices = sorted({device for device, _ in self.used})
        names = [f"{device}: {self.table[device]['name']}" for device in devices]
        rows = sorted(self.used.items(), key=lambda item: (item[1]["measured"], item[0]))
        return names + [_sentence(*key, row) for key, row in rows]


def _sentence(device: str, what: str, row: Mapping) -> str:
    """A rate with its origin."""
    origin = "measured" if row["measured"] else "ASSUMED"
    return f"{origin}: {what} on {device}, {float(row['value']):.3g} {row['unit']}, {row['how']}"
