"""The landing page in a real browser: it shows text and pictures, without errors or requests, and its tables sort."""

import pytest

from knatlas.reporting.page import POLICY
from tests.browser import look, need_browser
from tests.page_of_a_study import write_page
from tests.page_reader import Reader, broken_links

pytestmark = pytest.mark.workflow


@pytest.fixture(scope="module", autouse=True)
def browser():
    """A Chromium is there."""
    need_browser()


def page_with(folder, body):
    """A page with something in it, under the landing page's rules of what may be loaded."""
    policy = f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    page = folder / "page.html"
    page.write_text(f"<!doctype html><html><head>{policy}</head><body>{body}</body></html>", encoding="utf-8")
    return page


def test_the_page_is_shown_without_errors_or_requests_and_every_table_sorts(tmp_path):
    page = write_page(tmp_path / "results")
    seen = look(page, tmp_path)
    assert seen.said == []
    assert seen.found["wrong"] == seen.found["hidden"] == seen.found["loaded"] == []
    # badges, claims, and the table of known facts
    assert seen.found["tables"] >= 2 and seen.found["columns"] >= 5 and seen.found["pictures"] == 1
    assert seen.elements.rstrip().endswith("</html>") and 'aria-sort="descending"' in seen.elements
    assert broken_links(page, Reader(seen.elements)) == []
    assert seen.share > 0.02 and seen.colours > 50


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("<script>nothing.there</script>", "nothing is not defined"),
        ('<img src="http://atlas.invalid/x.png" alt="x">', "Content Security Policy"),
    ],
)
def test_an_error_and_a_request_of_a_page_are_noticed(tmp_path, wrong, words):
    seen = look(page_with(tmp_path, wrong), tmp_path)
    assert len(seen.said) == 1 and words in seen.said[0]


def test_a_blank_page_a_picture_that_is_not_shown_and_a_table_that_does_not_sort_are_noticed(tmp_path):
    rows = "".join(f"<tr><td>{value}</td></tr>" for value in (3, 1, 2))
    table = f'<table class="sortable"><thead><tr><th><button>v</button></th></tr></thead><tbody>{rows}</tbody></table>'
    hidden = f'<div style="display: none">{table}</div><img src="data:image/png;base64,AAAA" alt="" width="1">'
    seen = look(page_with(tmp_path, hidden), tmp_path)
    assert seen.share < 0.001
    assert seen.found["wrong"] == ["v ascending", "v descending"] and seen.found["hidden"] == [""]
