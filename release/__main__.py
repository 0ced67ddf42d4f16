"""`python -m release build` makes the files of a release, `check` says what the commit lacks (docs/release.md)."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from release.building import build, git
from release.materials import bill, locked, vendored
from release.readiness import SIGNERS, missing, version_of
from release.signing import NotSigned, sign, write_sums

ROOT = Path(__file__).resolve().parent.parent
LOCK = "requirements-image.lock"
VENDORED = "console/web/vendor/VENDORED.toml"


def make(root: Path, output: Path) -> list[Path]:
    """Build a commit's files into an empty folder, with bill of materials and digests. Returns them."""
    files = build(root, output)
    epoch = int(git(root, "log", "-1", "--format=%ct", "HEAD"))
    components = locked(git(root, "show", f"HEAD:{LOCK}")) + vendored(git(root, "show", f"HEAD:{VENDORED}"))
    materials = output / f"stream_sentinel-{version_of(root)}.cdx.json"
    materials.write_bytes(bill("stream-sentinel", version_of(root), epoch, components))
    return [*files, materials, write_sums(output)]


def main(arguments: list[str] | None = None) -> int:
    """Exit code 1 if the commit lacks something, or can't be signed."""
    parser = argparse.ArgumentParser(prog="python -m release", description=__doc__)
    parser.add_argument("--root", type=Path, default=ROOT, help="the repository")
    commands = parser.add_subparsers(dest="command", required=True)
    building = commands.add_parser("build", help="build, list and digest; with --key, sign")
    building.add_argument("output", type=Path, help="an empty folder, or one that is not there")
    building.add_argument("--key", type=Path, help="private key of ssh-keygen that signs")
    building.add_argument("--signers", type=Path, help=f"whose keys may sign (default: {SIGNERS})")
    commands.add_parser("check", help="say what the commit lacks")
    given = parser.parse_args(arguments)
    lacks = list(missing(given.root))
    if given.command == "check" or given.key is not None:
        for each in lacks:
            print(f"missing: {each}", file=sys.stderr)
        if given.command == "check":
            print("ready" if not lacks else f"{len(lacks)} missing")
        if lacks:
            return 1
    if given.command == "build":
        if given.output.exists() and any(given.output.iterdir()):
            print(f"error: {given.output} is not empty", file=sys.stderr)
            return 1
        files = make(given.root, given.output)
        if given.key is not None:
            try:
                files.append(sign(files[-1], given.key, given.signers or given.root / SIGNERS))
            except NotSigned as error:
                print(f"error: {error}", file=sys.stderr)
                return 1
        for file in files:
            print(f"{file.stat().st_size:>12,}  {file}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
