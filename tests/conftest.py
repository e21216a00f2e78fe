"""What every test starts from."""

import pytest


@pytest.fixture(autouse=True)
def course_switches(monkeypatch):
    """Unit tests mean the same whether the notebooks beside them run in full or as a dry run."""
    monkeypatch.setenv("COURSE_TEST", "1")
    monkeypatch.delenv("COURSE_QUICK", raising=False)
    monkeypatch.delenv("COURSE_DEVICE", raising=False)
