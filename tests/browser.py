"""A headless Chromium that shows a page, clicks the heads of its tables, and takes a picture, for tests to look at."""

import fcntl
import json
import os
import re
import shutil
import subprocess
from collections import Counter
from html import unescape
from pathlib import Path
from tempfile import gettempdir
from typing import NamedTuple

import pytest
from PIL import Image

NAMES = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
OPTIONS += ["--hide-scrollbars", "--window-size=1200,1600", "--enable-logging=stderr", "--dump-dom"]
# clicks each head of each table twice and looks whether the column, of numbers or of words, is in order up and down;
# names the pictures that are not shown, and what the page loaded
LOOK = """<script>{
const wrong = [], tables = [...document.querySelectorAll("table.sortable")];
let columns = 0;
const isNumber = text => text !== "" && !isNaN(text);
for (const table of tables) [...table.querySelectorAll("th button")].forEach((button, column) => {
  const cells = () => [...table.tBodies[0].rows].map(row => row.cells[column].textContent.trim());
  const before = [...cells()].sort().join("|"), filled = cells().filter(text => text !== "");
  const areNumbers = filled.every(isNumber);
  // of numbers and words together no order is promised
  if (!areNumbers && filled.some(isNumber)) return;
  columns += 1;
  for (const sign of [1, -1]) {
    button.click();
    const shown = cells().filter(text => text !== "");
    const isOrdered = shown.every((text, i) => i === 0
      || sign * (areNumbers ? shown[i - 1] - text : shown[i - 1].localeCompare(text)) <= 0);
    const words = sign === 1 ? "ascending" : "descending";
    if (!isOrdered || [...cells()].sort().join("|") !== before
        || button.parentElement.getAttribute("aria-sort") !== words) wrong.push(`${button.textContent} ${words}`);
  }
});
const pictures = [...document.images];
const loaded = performance.getEntriesByType("resource").map(entry => entry.name);
const hidden = pictures.filter(picture => !(picture.complete && picture.naturalWidth)).map(picture => picture.alt);
const said = {tables: tables.length, columns, wrong, pictures: pictures.length, hidden, loaded};
document.title = JSON.stringify(said);
}</script></body>"""


class Sight(NamedTuple):
    """What a browser made of a page.

    elements: the page after its scripts ran; said: lines of the console, errors and refused loads among them; found:
    what the script above found; share: of the picture's pixels, how many have another colour than the ground; colours:
    how many colours the picture has.
    """

    elements: str
    said: list[str]
    found: dict
    share: float
    colours: int


def program() -> str | None:
    """The path of an installed Chromium."""
    return next(filter(None, map(shutil.which, NAMES)), None)


def need_browser() -> None:
    """Skip a test where no Chromium is installed; with KNATLAS_REQUIRE_BROWSER=1 install it, or fail."""
    if program():
        return
    if os.environ.get("KNATLAS_REQUIRE_BROWSER") != "1":
        pytest.skip("no Chromium is installed: apt-get install chromium")
    if reason := install():
        pytest.fail(f"{reason} (KNATLAS_REQUIRE_BROWSER=1: this test must not be skipped)")


def install() -> str:
    """Install Chromium where that is possible; otherwise why it is not, as a sentence."""
    if os.geteuid() or shutil.which("apt-get") is None:
        return "no Chromium is installed, and this user can't install one"
    given = {"env": {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}, "capture_output": True, "text": True}
    said = ""
    # one worker of pytest installs it, others wait
    with (Path(gettempdir()) / "knatlas-browser.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for command in (["update"], ["install", "-y", "--no-install-recommends", "chromium"]):
            if program() is None:
                said = subprocess.run(["apt-get", "-q", *command], timeout=600, **given).stderr[-500:]
    return "" if program() else f"apt-get could not install Chromium: {said}"


def look(page: Path, folder: Path) -> Sight:
    """Show a page, as a copy beside it, and look at it; profile and picture go into a folder."""
    copy = page.with_name(f"looked_at_{page.name}")
    copy.write_text(page.read_text(encoding="utf-8").replace("</body>", LOOK), encoding="utf-8")
    picture = folder / "picture.png"
    command = [program(), *OPTIONS, f"--user-data-dir={folder / 'profile'}", f"--screenshot={picture}", copy.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    copy.unlink()
    assert done.returncode == 0, done.stderr[-2000:]
    said = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    found = re.search(r"<title>(.*?)</title>", done.stdout)
    return Sight(done.stdout, said, json.loads(unescape(found.group(1))) if found else {}, *_colours(picture))


def _colours(picture: Path) -> tuple[float, int]:
    """The share of pixels that are not of the commonest colour, and the number of colours."""
    with Image.open(picture) as image:
        counts = Counter({colour: n for n, colour in image.convert("RGB").getcolors(maxcolors=2**24)})
    return 1 - counts.most_common(1)[0][1] / counts.total(), len(counts)
