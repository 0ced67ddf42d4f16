"""Which tests of the integration suite run one after the other in one process, when it has several."""

from __future__ import annotations

from xdist.scheduler import LoadScopeScheduling

from tests.builders import shell_places


def group_of(name: str) -> str:
    """The group of a test, by its name. A file's tests share servers, those of the browser a bank, and pages that start
    the console its port; simulations and other pages share nothing.
    """
    file, _, test = name.partition("::")
    if file.endswith("/test_simulation.py"):
        return name
    if file.endswith("/test_shell_blocks.py"):
        page = test.partition("[")[2].removesuffix("]")
        return "port 8700" if shell_places.is_on_port_8700(page) else name
    return "browser" if "/browser/" in file else file


class Grouped(LoadScopeScheduling):
    """Gives a group to one process. (The marks of `--dist loadgroup` have no effect with pytest 9.2: pytest-xdist 3.8
    writes them into names that are not read.)
    """

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)
