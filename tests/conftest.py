"""What every test starts from."""

import re

import pytest


def pytest_collection_modifyitems(items):
    """Browser tests come last: Playwright's event loop stays in this thread until the very end.

    With a loop at hand, the widgets that the unit tests make would wait for it to run. Those of one
    notebook come together, from whatever file, so that it is run in the browser once.
    """
    items.sort(key=_place)


def _place(item):
    is_browser = item.get_closest_marker("browser") is not None
    params = item.callspec.params if is_browser and hasattr(item, "callspec") else {}
    return is_browser, params.get("ran", params.get("name", ""))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Where processes share the tests, each takes a file's, or a notebook's, in the order above.

    The mark `xdist_group` would do, but pytest-xdist 3.8 does not see it under pytest 9.2.
    """
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            file, _, test = nodeid.partition("::")
            notebook = re.search(r"\[([\w/]+)", test)
            return notebook[1] if "browser" in file and notebook else file

    config.option.loadscopereorder = False
    return Groups(config, log)


@pytest.fixture(autouse=True)
def course_switches(monkeypatch):
    """Unit tests mean the same whether the notebooks beside them run in full or as a dry run."""
    monkeypatch.setenv("COURSE_TEST", "1")
    monkeypatch.delenv("COURSE_QUICK", raising=False)
    monkeypatch.delenv("COURSE_DEVICE", raising=False)
