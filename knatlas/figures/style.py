"""One look for all figures, and one way to save them: pdf, png and the csv behind them, the same bytes every time."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from knatlas.writing import replacing

MAX_WIDTH = 12.0  # inches
PANEL_HEIGHT = 2.6
# the palette of Okabe and Ito, which readers with any common colour blindness can tell apart
COLOURS = {
    "matrice": "#0072B2",
    "matrice_leave_language_out": "#332288",
    "matrice_without_query_uncertainty": "#56B4E9",
    "matrice_without_language_uncertainty": "#CC79A7",
    "matrice_without_query_uncertainty_matched": "#117733",
    "matrice_without_language_uncertainty_matched": "#661100",
    "amig": "#E69F00",
    "likn": "#D55E00",
    "bkn": "#009E73",
    "refined": "#F0E442",
    "dkn": "#882255",
    "random": "#999999",
    "random_layer_matched": "#444444",
}
OTHER_COLOUR = "#000000"
FALLBACK_NAME = "Atlas Sans Fallback"
FALLBACK_FONT = Path(__file__).with_name("fonts") / "AtlasSansFallback.ttf"
# here and not only beside the font, so that another font counts as other code, by which figures are drawn again
FALLBACK_DIGEST = "e48a895e269c7af3"
CJK_FONTS = ["Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans CJK KR", "Source Han Sans", "WenQuanYi Zen Hei"]
SETTINGS = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "hatch.linewidth": 0.6,
    "pdf.fonttype": 42,  # text stays text
    "savefig.dpi": 200,
}


@cache
def font_families() -> list[str]:
    """DejaVu Sans, the own font with Chinese, Japanese and Korean letters, and installed ones for what both lack.

    The own font stands before installed ones: a figure with such letters looks the same on every machine, and its pdf
    is well-formed (most of the installed ones have outlines that matplotlib embeds under a wrong type).
    """
    fonts = font_manager.fontManager
    fonts.addfont(FALLBACK_FONT)
    # also for bold text: matplotlib warns of a weight that it doesn't have
    fonts.ttflist.append(replace(fonts.ttflist[-1], weight=700))
    installed = {font.name for font in fonts.ttflist}
    return ["DejaVu Sans", FALLBACK_NAME, *[name for name in CJK_FONTS if name in installed]]


@contextmanager
def house_style() -> Iterator[None]:
    """Inside the block figures are made and saved in the one style; settings outside don't matter and don't change."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({**SETTINGS, "font.family": font_families()})
        yield


def panels(n_panels: int, n_columns: int, width: float = MAX_WIDTH) -> tuple[Figure, list[Axes]]:
    """A figure with so many panels in rows of `n_columns`, width in inches; labels get the room they need."""
    n_rows = -(-n_panels // n_columns)
    figure = Figure(figsize=(width, PANEL_HEIGHT * n_rows + 0.8), layout="constrained")
    return figure, [figure.add_subplot(n_rows, n_columns, i + 1) for i in range(n_panels)]


def draw_bars(axes: Axes, places: np.ndarray, rows: pd.DataFrame, width: float, look: dict) -> None:
    """Bars of `value` with intervals from `lo` to `hi`; rows without a value leave a gap."""
    value = rows["value"].to_numpy(float)
    reach = np.abs(np.stack([value - rows["lo"].to_numpy(float), rows["hi"].to_numpy(float) - value]))
    lines = {"ecolor": "#222222", "elinewidth": 0.8, "capsize": 1.2, "capthick": 0.8}
    axes.bar(places, value, width, yerr=reach, error_kw=lines, **look)


def in_percent(value: float, _: object = None) -> str:
    """A share as a tick label in percent, without needless digits."""
    return f"{100 * value:.6g}"


def write_legend(figure: Figure, axes: Sequence[Axes], n_columns: int, handle_length: float | None = None) -> None:
    """One legend under all panels, each entry once, in the order of first use.

    handle_length: of the lines in it, in letters; None takes matplotlib's, too short for a dash with a marker on it.
    """
    entries = {}
    for part in axes:
        entries |= {label: handle for handle, label in zip(*part.get_legend_handles_labels(), strict=True)} | entries
    look = {"loc": "outside lower center", "ncols": n_columns, "handlelength": handle_length}
    figure.legend(entries.values(), entries.keys(), **look)


def facts_label(n: pd.Series) -> str:
    """How many facts stand behind a panel: "n = 24 facts", or the range where it differs between bars."""
    smallest, largest = int(n.min()), int(n.max())
    return f"n = {largest} facts" if smallest == largest else f"n = {smallest} to {largest} facts"


def save(figure: Figure, path: str | Path, data: pd.DataFrame) -> list[Path]:
    """Write NAME.pdf, NAME.png and NAME.csv (the rows that are drawn); no times and no program names in them.

    `path` is taken without its ending. Returns the three paths.
    """
    base = Path(path).with_suffix("")
    pdf, png, csv = (base.with_suffix(f".{ending}") for ending in ("pdf", "png", "csv"))
    no_traces = {pdf: {"CreationDate": None, "Creator": None, "Producer": None}, png: {"Software": None}}
    drawn = _lay_out(figure)
    for image, metadata in no_traces.items():
        with replacing(image) as partial:
            figure.savefig(partial, format=image.suffix[1:], bbox_inches=drawn, metadata=metadata)
    with replacing(csv) as partial:
        data.to_csv(partial, index=False)
    return [pdf, png, csv]


def _lay_out(figure: Figure) -> Bbox:
    """Give everything its place, once for both images, each of which would do it again; what is drawn, in inches."""
    figure.dpi = matplotlib.rcParams["savefig.dpi"]
    FigureCanvasAgg(figure)  # the canvas of the png, which keeps the sizes of texts
    for text in figure.findobj(Text):
        if text.get_text() and text.get_text().isascii():  # in all the other fonts nothing need be looked up
            text.set_fontfamily(font_families()[0])
    figure.draw_without_rendering()
    drawn = figure.get_tightbbox().padded(matplotlib.rcParams["savefig.pad_inches"])
    figure.set_layout_engine(None)
    return drawn
