import pytest


@pytest.fixture
def pygraphviz(monkeypatch):
    """The engine that draws where no `dot` is on the PATH, as here. Its wheel wants libraries of the system."""
    monkeypatch.setenv("PATH", "")
    return pytest.importorskip("pygraphviz", reason="pygraphviz can't be loaded on this system", exc_type=ImportError)
