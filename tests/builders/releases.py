"""Another release of this checkout, to run beside it: a copy of its packages with another version and another format of
snapshots. It decides as this one does.
"""

from __future__ import annotations

import compileall
import shutil
from importlib.metadata import distribution
from pathlib import Path

from console.service import ROOT

VERSION = "99.0.0"
_PACKAGES = (
    *("core", "models", "projections", "learners", "responders", "ingest", "sources", "console"),
    *("stream_sentinel", "verifier"),
)
_FORMAT = ("core/features/state.py", 'b"sentinel-accounts-5\\n"', 'b"sentinel-accounts-99\\n"')


def another_release(folder: Path) -> Path:
    """Make one in this folder, which must not exist; it is the `root` of `console.service.Service`. The kernels that
    this checkout has compiled are its kernels, too.
    """
    for package in _PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    path, former, other = _FORMAT
    source = (folder / path).read_text(encoding="utf-8")
    assert source.count(former) == 1, f"{path} has another format of snapshots: name it here"
    (folder / path).write_text(source.replace(former, other), encoding="utf-8")
    named = distribution("stream-sentinel").metadata
    about = folder / f"stream_sentinel-{VERSION}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {named['Name']}\nVersion: {VERSION}\n")
    compileall.compile_dir(str(folder), quiet=2)
    return folder
