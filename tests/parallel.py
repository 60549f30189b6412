"""How pytest-xdist shares the tests out among its processes, if there are several (`-n 2`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from xdist.scheduler import LoadScopeScheduling

SYSTEM = ("tests/e2e/", "tests/faults/")
"""These tests share one running system, and kill parts of it: they stay in one process, and begin first."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """The tests of a module share fixtures, such as a started server: a module stays in one process."""
    from xdist.scheduler import LoadScopeScheduling

    class ByModule(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return scope_of(nodeid)

    config.option.loadscopereorder = False
    return ByModule(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: scope_of(item.nodeid) != "system")


def scope_of(nodeid: str) -> str:
    """The name of what must stay in one process."""
    return "system" if nodeid.startswith(SYSTEM) else nodeid.split("::")[0]
