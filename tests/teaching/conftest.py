"""What a notebook cell displays, caught for tests that run without a notebook."""

import importlib

import pytest

DISPLAYING = ("plot", "report", "widgets", "glossary", "exercises", "exercises.exercise")


@pytest.fixture
def displayed(monkeypatch):
    """A list that grows by (bundle, metadata) with every display."""
    shown = []

    def display(bundle, *, raw=False, metadata=None, display_id=None):
        assert raw
        shown.append((bundle, metadata or {}))
        return Handle(shown) if display_id else None

    for name in DISPLAYING:
        module = importlib.import_module(f"course_lib.teaching.{name}")
        monkeypatch.setattr(module, "display", display)
    return shown


class Handle:
    """What `display(..., display_id=True)` returns."""

    def __init__(self, shown):
        self.shown = shown

    def update(self, bundle, *, raw=False):
        self.shown.append((bundle, {"updated": True}))
