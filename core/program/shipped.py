"""The identities of what is shipped with this release. A digest that was released stays here for ever: programs in logs
name it. `tests/unit/core/program/test_library.py` compares them with the documents.
"""

from __future__ import annotations

STANDARD_1 = "07a856081c35972bd9b0d29631f4049c6e24a2448ed76269e3caf3a57461777e"
LIBRARIES: dict[str, str] = {"standard@1": STANDARD_1}
"""SHA-256 by `name@version`; the documents are beside this module."""

DEFAULT_PROGRAM = "171680632b952223f95dfd6f6944fd29a0513345541ca5e1a101b2e3b9fb6628"
"""The program of a log without any deployment: it uses standard@1 and adds nothing."""
