"""The raw numbers as tables in docs/benchmarks.md, between its markers: python -m benchmarks.tables."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from benchmarks.commands import say_errors
from benchmarks.jobs import CHECKED, CHECKED_MANY, DEFINITIONS, EXACT, EXACT_MANY, FLOAT64, JOBS, QUERIES
from knatlas.errors import AtlasError
from knatlas.storage import read_json, write_text

RAW, PAGE = Path("results/benchmarks"), Path("docs/benchmarks.md")
Row = Sequence[str]


def table(head: Row, rows: Iterable[Row]) -> str:
    """A markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def seconds(value: float) -> str:
    """Seconds with three digits that count."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def machines(results: Iterable[Mapping]) -> str:
    """The machine, or the machines, of some results as a sentence."""
    return "Machine: " + "; ".join(sorted({result["machine"] for result in results})) + "."


def _speed_results() -> list[dict]:
    """What the speed benchmark has left, in the order of the jobs."""
    paths = [RAW / "speed" / f"{name}.json" for name in JOBS]
    return [read_json(path) for path in paths if path.exists()]


def _pair(result: Mapping, reference: str, other: str) -> Mapping:
    """The agreement of two contestants of a job."""
    return next(pair for pair in result["agreement"] if (pair["reference"], pair["other"]) == (reference, other))


def speed_table(results: Sequence[Mapping]) -> str:
    """One row per job and opponent: seconds, ratios, agreement in exact and checked mode; ratios of several queries."""
    head = ["model", "m", "scores", "other code", "CPU s", "exact, CPU s", "ratio", "relative L2"]
    head += ["checked, CPU s", "ratio", "relative L2", f"{QUERIES} queries, exact", f"{QUERIES} queries, checked"]
    rows = [row for result in results if result["definition"] != "steps" for row in _speed_rows(result)]
    return table(head, rows)


def _speed_rows(result: Mapping) -> Iterable[Row]:
    """The rows of one job."""
    modes = {rival["label"]: rival for rival in result["contestants"] if rival["is_engine"]}
    for rival in result["contestants"]:
        if rival["is_engine"]:
            continue
        row = [result["model"], str(result["tokens"]), DEFINITIONS[result["definition"]], rival["label"]]
        row.append(seconds(rival["cpu_seconds"]))
        for mode in (EXACT, CHECKED):
            ratio = rival["cpu_seconds"] / modes[mode]["cpu_seconds"]
            error = _pair(result, rival["label"], mode)["relative_l2"]
            row += [seconds(modes[mode]["cpu_seconds"]), f"{ratio:.1f}", f"{error:.0e}"]
        for mode in (EXACT_MANY, CHECKED_MANY):
            row.append(f"{rival['cpu_seconds'] / modes[mode]['cpu_seconds']:.1f}" if mode in modes else "")
        yield row


def rounding_table(results: Sequence[Mapping]) -> str:
    """One row per job and opponent: relative L2 difference of float32 scores from those in float64."""
    rows = []
    for result in results:
        for rival in result["contestants"]:
            if not rival["is_engine"]:
                errors = [_pair(result, FLOAT64, label)["relative_l2"] for label in (rival["label"], EXACT, CHECKED)]
                row = [result["model"], str(result["tokens"]), DEFINITIONS[result["definition"]], rival["label"]]
                rows.append([*row, *(f"{error:.1e}" for error in errors)])
    return table(["model", "m", "scores", "other code", "its error", "exact mode's", "checked mode's"], rows)


def checked_table(results: Sequence[Mapping]) -> str:
    """One row per job: points, estimated and real error of checked mode."""
    head = ["model", "m", "scores", "gradients, all points", "gradients taken", "paths with all points"]
    head += ["estimated error, worst layer", "relative L2 to exact mode", "its worst layer"]
    rows = []
    for result in results:
        if result["definition"] != "steps":
            mode = next(rival for rival in result["contestants"] if rival["label"] == CHECKED)
            pair = _pair(result, EXACT, CHECKED)
            rows.append(
                [
                    *(result["model"], str(result["tokens"]), DEFINITIONS[result["definition"]]),
                    *(f"{mode['n_full_points']:,}", f"{mode['n_points']:,}", str(mode["n_fallbacks"])),
                    *(f"{mode['error_estimate']:.0e}", f"{pair['relative_l2']:.0e}", f"{pair['worst_layer']:.0e}"),
                ]
            )
    return table(head, rows)


def steps_table(results: Sequence[Mapping]) -> str:
    """One row per model and number of steps in checked mode; the full sum where it was computed."""
    rows = []
    for result in results:
        if result["definition"] == "steps":
            first = result["contestants"][0]["cpu_seconds"]
            full = next((rival["label"] for rival in result["contestants"] if "full" in rival["label"]), None)
            for rival in result["contestants"]:
                many = full and rival["label"] == full.split(",")[0]
                error = f"{_pair(result, rival['label'], full)['relative_l2']:.0e}" if many else ""
                ratio = rival["cpu_seconds"] / first
                time = [seconds(rival["cpu_seconds"]), f"{ratio:.2f}"]
                rows.append([result["model"], rival["label"], *time, f"{rival['n_points']:,}", error])
    return table(["model", "steps", "CPU s", "relative to N=20", "gradients taken", "relative L2 to full sum"], rows)


def memory_table(result: Mapping) -> str:
    """One row per mode and rows of a batch; peak MiB above the model, by steps at few tokens, then by tokens."""
    columns = sorted({(case["tokens"], case["steps"]) for case in result["cases"]}, key=lambda c: (c[1], c[0]))
    found = {(c["mode"], c["batch_rows"], c["tokens"], c["steps"]): c["mebibytes"] for c in result["cases"]}
    rows = [
        [mode, str(batch_rows or "chosen"), *(f"{found[mode, batch_rows, *column]:.0f}" for column in columns)]
        for mode, batch_rows in dict.fromkeys((c["mode"], c["batch_rows"]) for c in result["cases"])
    ]
    return table(["mode", "rows of a batch", *(f"m={tokens}, N={steps}" for tokens, steps in columns)], rows)


def growth_table(result: Mapping) -> str:
    """One row per number of facts: CPU seconds and CPU seconds per fact of both modes."""
    found = {(row["mode"], row["facts"]): row["cpu_seconds"] for row in result["rows"]}
    rows = [
        [str(facts), *(seconds(found[mode, facts] / by) for mode in (EXACT, CHECKED) for by in (1, facts))]
        for facts in sorted({row["facts"] for row in result["rows"]})
    ]
    return table(["facts", "exact, CPU s", "per fact", "checked, CPU s", "per fact"], rows)


def gpu_table(results: Sequence[Mapping]) -> str:
    """One row per setting and mode."""
    head = ["device", "model", "dtype", "queries x m", "mode", "s per query", "useful TFLOP per query"]
    head += ["TFLOP/s", "of the matrix products' rate", "peak GiB", "points per path"]
    rows = [_gpu_row(result, mode) for result in results for mode in result["modes"]]
    return table(head, rows)


def _gpu_row(result: Mapping, mode: Mapping) -> Row:
    """One mode of one setting."""
    setting = result["setting"]
    model = f"{setting['layers']} x {setting['hidden']}, {setting['vocabulary']:,} words"
    return [
        *(setting["device"], model, setting["dtype"], f"{setting['queries']} x {setting['tokens']}", mode["mode"]),
        *(seconds(mode["seconds_per_query"]), f"{mode['flops_per_query'] / 1e12:.3g}"),
        *(f"{mode['flops_per_second'] / 1e12:.3g}", f"{mode['share_of_product_rate']:.0%}"),
        *(f"{mode['peak_gibibytes']:.1f}", f"{mode['points_per_path']:.1f}"),
    ]


def precision_table(results: Sequence[Mapping]) -> str:
    """One row per device, dtype and mode: error against float64 on the processor."""
    rows = {
        (result["setting"]["device"], row["dtype"], row["mode"]): f"{row['relative_l2']:.0e}"
        for result in results
        for row in result["agreement"]
    }
    return table(["device", "dtype", "mode", "relative L2"], [[*key, error] for key, error in rows.items()])


def blocks() -> dict[str, str]:
    """Marker -> text, of what has been measured."""
    found: dict[str, str] = {}
    if speed := _speed_results():
        found["speed"] = f"{machines(speed)}\n\n{speed_table(speed)}"
        found["rounding"] = rounding_table(speed)
        found["checked"] = checked_table(speed)
        found["steps"] = steps_table(speed)
    for name, make in {"memory": memory_table, "growth": growth_table}.items():
        path = RAW / f"{name}.json"
        if path.exists():
            result = read_json(path)
            found[name] = f"{result['model']}. {machines([result])}\n\n{make(result)}"
    if gpu := [read_json(path) for device in ("cuda", "cpu") for path in sorted(RAW.glob(f"{device}-*.json"))]:
        found["gpu"] = f"{machines(gpu)}\n\n{gpu_table(gpu)}\n\n{precision_table(gpu)}"
    return found


def fill(page: str, found: Mapping[str, str]) -> str:
    """The page with the text of each marker replaced. Raises: AtlasError for a marker that the page lacks."""
    for name, text in found.items():
        begin, end = f"<!-- {name}: generated -->", f"<!-- {name}: end -->"
        pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
        if not pattern.search(page):
            raise AtlasError(f"{PAGE} has no lines '{begin}' and '{end}'; put them where the table shall stand.")
        page = pattern.sub(lambda _, new=f"{begin}\n{text}\n{end}": new, page)
    return page


def main() -> None:
    """Write the tables of all raw numbers into the page."""
    write_text(fill(PAGE.read_text(encoding="utf-8"), blocks()), PAGE)


if __name__ == "__main__":
    say_errors(main)
