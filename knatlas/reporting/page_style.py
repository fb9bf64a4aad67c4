"""Style sheet and sorting of the landing page: no other machine is asked, legible in print and without colour."""

# the first fonts that a machine has: Latin, then Chinese, Japanese and Korean ones of all common systems
FONTS = (
    'system-ui, "Segoe UI", "Helvetica Neue", "Noto Sans", Arial, "Noto Sans CJK SC", "Noto Sans CJK JP", '
    '"Noto Sans CJK KR", "Noto Sans SC", "Source Han Sans", "PingFang SC", "Hiragino Sans", "Apple SD Gothic Neo", '
    '"Microsoft YaHei", "Yu Gothic", "Malgun Gothic", "WenQuanYi Zen Hei", "Droid Sans Fallback", sans-serif'
)
# Okabe and Ito's colours, which colour-blind readers tell apart; each stands beside a word and a border of its own
STYLE = (
    ":root { --yes: #0072b2; --partly: #b45f00; --no: #a8325e; --open: #595959; }\n"
    f"body {{ font: 16px/1.5 {FONTS}; color: #1a1a1a; background: #fff; margin: 0 auto; max-width: 76rem; "
    "padding: 1rem 1.5rem; }\n"
    """h1 { font-size: 1.8rem; margin: .5rem 0; }
h2 { font-size: 1.35rem; border-bottom: 2px solid #1a1a1a; margin-top: 2.5rem; }
h3 { font-size: 1.1rem; margin-bottom: .3rem; }
a { color: #00527f; }
nav a { margin-right: 1rem; }
.numbers { display: flex; flex-wrap: wrap; gap: 2rem; margin: 1rem 0; padding: 0; list-style: none; }
.numbers strong { display: block; font-size: 2rem; line-height: 1.1; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; margin: .5rem 0; }
th, td { text-align: left; vertical-align: top; padding: .25rem .6rem; border-bottom: 1px solid #ccc; }
th button { all: unset; cursor: pointer; font-weight: 700; }
th button:focus-visible { outline: 2px solid #00527f; }
th[aria-sort=ascending] button::after { content: " \\25B2"; }
th[aria-sort=descending] button::after { content: " \\25BC"; }
.claims td:first-child { min-width: 14rem; }
.mark { display: inline-block; white-space: nowrap; font-weight: 700; padding: 0 .45rem; border: 2px solid; }
.green, .holds { color: var(--yes); border-style: solid; }
.amber { color: var(--partly); border-style: dashed; }
.red, .fails { color: var(--no); border-style: double; border-width: 4px; }
.grey, .undecided, .unstudied { color: var(--open); border-style: dotted; }
.small { font-size: .85rem; color: #404040; }
figure { margin: 1.5rem 0; break-inside: avoid; }
figure img { max-width: 100%; height: auto; }
figcaption { font-size: .9rem; max-width: 60rem; }
details { margin: .4rem 0; }
summary { cursor: pointer; font-weight: 600; }
pre { overflow-x: auto; font-size: .8rem; background: #f4f4f4; padding: .6rem; }
@media print { body { font-size: 10pt; max-width: none; padding: 0; } nav { display: none; } a { color: inherit; }
 .wide { overflow: visible; } table { font-size: 7.5pt; } thead { display: table-header-group; }
 tr { break-inside: avoid; } }
"""
)
# numbers by size, other cells as text, empty ones last; a second click turns the order round
SCRIPT = """const heads = document.querySelectorAll("table.sortable th button");
heads.forEach(button => button.addEventListener("click", () => {
  const head = button.parentElement, body = head.closest("table").tBodies[0], column = head.cellIndex;
  const down = head.getAttribute("aria-sort") === "ascending";
  head.parentElement.querySelectorAll("th").forEach(other => other.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  const key = row => row.cells[column].textContent.trim();
  const compare = (a, b) => a === "" || b === "" ? (a === "") - (b === "")
    : (down ? -1 : 1) * (isNaN(a) || isNaN(b) ? a.localeCompare(b) : a - b);
  [...body.rows].map(row => [key(row), row]).sort((a, b) => compare(a[0], b[0])).forEach(([, row]) => body.append(row));
}));
"""
