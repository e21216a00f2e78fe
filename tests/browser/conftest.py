"""One server and one browser for all tests here; each notebook is opened and run once."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    Page,
    Playwright,
    expect,
    sync_playwright,
)

from .lab import SOON, Lab, Notebook

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",  # a container may have less than two browsers need
    "--disable-background-networking",
    "--disable-sync",
    "--no-first-run",
    "--disable-component-update",
]
NO_BROWSER = (
    "there is no Chromium: install one (sudo apt install chromium, or python -m playwright "
    "install chromium) to test the notebooks in a browser"
)
# Tall, so that any widget fits: a picture of one cut in two would show nothing.
VIEWPORT = {"width": 1280, "height": 1400}


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        executable = find_browser(playwright)
        if executable is None and os.environ.get("CI"):
            pytest.fail(NO_BROWSER)
        if executable is None:
            pytest.skip(NO_BROWSER)
        browser = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def lab(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    # It asks for the browser so that no server starts where there is none.
    expect.set_options(timeout=SOON)
    lab = Lab(tmp_path_factory.mktemp("lab"))
    try:
        lab.wait_until_it_answers()
        yield lab
    finally:
        lab.stop()


@pytest.fixture(scope="session")
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport=VIEWPORT, reduced_motion="reduce")
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    page = context.new_page()
    yield page
    page.close()


@pytest.fixture(scope="session")
def lab_page(context: BrowserContext) -> Iterator[Page]:
    """The page in which one notebook after the other is opened, run and closed."""
    page = context.new_page()
    yield page
    page.close()


@pytest.fixture(scope="session")
def ran(lab: Lab, lab_page: Page, request: pytest.FixtureRequest) -> Iterator[Notebook]:
    """The notebook whose name is the parameter, opened and run to its end or first failure."""
    notebook = None
    try:
        notebook = Notebook.open(lab, lab_page, request.param)
        notebook.look_at_widgets("stored")
        notebook.run()
        notebook.look_at_widgets("ran")
    except Exception:
        if notebook:
            notebook.keep_evidence("run")
        lab_page.goto("about:blank")  # so that the next notebook finds a fresh JupyterLab
        lab.stop_kernels()
        raise
    yield notebook
    notebook.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    if report.when == "call" and report.failed:
        for value in item.funcargs.values():
            if isinstance(value, Notebook):
                value.keep_evidence(item.name.split("[")[0])
    return report


def find_browser(playwright: Playwright) -> str | None:
    """The path of a Chromium on this machine, or of Playwright's own."""
    found = [shutil.which(name) for name in BROWSERS]
    own = playwright.chromium.executable_path
    return next(filter(None, found), own if Path(own).exists() else None)
