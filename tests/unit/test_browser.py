"""Where no browser is installed, tests that need one are skipped, and fail where they must not be skipped."""

import os

import pytest

from tests import browser


@pytest.mark.parametrize(("required", "outcome"), [("1", pytest.fail.Exception), ("", pytest.skip.Exception)])
def test_a_missing_browser_skips_and_fails_where_it_is_required(monkeypatch, required, outcome):
    monkeypatch.setenv("KNATLAS_REQUIRE_BROWSER", required)
    monkeypatch.setattr(browser, "NAMES", ("no-such-browser",))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(outcome, match="no Chromium is installed"):
        browser.need_browser()


def test_an_installation_that_fails_says_what_apt_said(monkeypatch, tmp_path):
    monkeypatch.setenv("KNATLAS_REQUIRE_BROWSER", "1")
    monkeypatch.setattr(browser, "NAMES", ("no-such-browser",))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(browser, "gettempdir", lambda: str(tmp_path))
    program = tmp_path / "apt-get"
    program.write_text('#!/bin/sh\necho "no package, asked: $*" >&2\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(pytest.fail.Exception, match="no package, asked: -q install -y"):
        browser.need_browser()
