"""The identities of what is shipped with this release. A digest that was released stays here for ever: programs in logs
name it. `tests/unit/core/program/test_library.py` compares them with the documents.
"""

from __future__ import annotations

STANDARD_1 = "85b74dc57cf727737e87037f168692820b6ceb597e81a13aaabc0aa80c55fe97"
LIBRARIES: dict[str, str] = {"standard@1": STANDARD_1}
"""SHA-256 by `name@version`; the documents are beside this module."""

DEFAULT_PROGRAM = "b1c8ab1fc75c34978f28eab137d8eadc985a38c312ec987def466fede7dce091"
"""The program of a log without any deployment: it uses standard@1 and adds nothing."""
