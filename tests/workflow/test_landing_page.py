"""The landing page in a real browser: it renders without an error or a request, and its tables sort."""

import re
import shutil
import subprocess

import pytest

from knatlas.reporting.page import POLICY
from tests.page_of_a_study import write_page

pytestmark = pytest.mark.workflow
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed: apt-get install chromium")
# sorts the table of known facts by its values, twice, and names what the page loaded from anywhere
CLICK = """<script>{
const table = [...document.querySelectorAll("table.sortable")].find(table => table.textContent.includes("日本語"));
const heads = [...table.querySelectorAll("th button")];
const column = heads.findIndex(button => button.textContent === "value");
const shown = () => [...table.tBodies[0].rows].map(row => row.cells[column].textContent).join(" ");
const orders = [shown()];
for (let i = 0; i < 2; i++) { heads[column].click(); orders.push(shown()); }
const loaded = performance.getEntriesByType("resource").map(entry => entry.name);
document.title = [...orders, ...loaded].join(" | ");
}</script></body>"""


def render(page, folder):
    """The page's elements after its scripts ran, and what the browser said of errors and of refused or failed loads."""
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--dump-dom"]
    options += [f"--user-data-dir={folder / 'profile'}", "--enable-logging=stderr"]
    done = subprocess.run([BROWSER, *options, page.as_uri()], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@needs_browser
def test_the_page_renders_without_errors_or_requests_and_its_tables_sort(tmp_path):
    page = write_page(tmp_path / "results")
    page.write_text(page.read_text(encoding="utf-8").replace("</body>", CLICK), encoding="utf-8")
    elements, said = render(page, tmp_path)
    assert said == []
    titles = re.findall(r"<title>(.*?)</title>", elements)
    assert titles == ["0.5 0.09 1 0.25 | 0.09 0.25 0.5 1 | 1 0.5 0.25 0.09"]
    assert elements.rstrip().endswith("</html>") and 'aria-sort="descending"' in elements


@needs_browser
@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("<script>nothing.there</script>", "nothing is not defined"),
        ('<img src="http://atlas.invalid/x.png" alt="x">', "Content Security Policy"),
    ],
)
def test_an_error_and_a_request_of_a_page_are_noticed(tmp_path, wrong, words):
    page = tmp_path / "page.html"
    policy = f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    page.write_text(f"<!doctype html><head>{policy}</head><body>{wrong}</body>")
    _, said = render(page, tmp_path)
    assert len(said) == 1 and words in said[0]
