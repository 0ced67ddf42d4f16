"""A release: the same bytes from two builds, a wheel that works without the tree, and instructions that run."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import msgspec
import pytest

from release.__main__ import main, make
from release.building import git
from release.materials import locked
from release.readiness import missing
from release.signing import IDENTITY, NAMESPACE

ROOT = Path(__file__).resolve().parents[2]


def tracked(*folders: str) -> set[str]:
    return set(git(ROOT, "ls-tree", "-r", "--name-only", "HEAD", *folders).splitlines())


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a release of HEAD."""
    folder = tmp_path_factory.mktemp("dist")
    make(ROOT, folder)
    return folder


@pytest.fixture(scope="module")
def clean(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of an environment with the wheels, and beside them only what the lock has: nothing of the tree."""
    place = tmp_path_factory.mktemp("clean")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place], check=True)
    python = place / "bin" / "python"
    wheels = [str(file) for file in dist.glob("*.whl")]
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--disable-pip-version-check", *wheels], check=True)
    (site,) = place.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return place / "bin"


def run(clean: Path, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """A program of the clean environment, in a folder of its own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "SENTINEL"))}
    return subprocess.run(
        [str(clean / command[0]), *command[1:]],
        cwd=clean.parent,
        env=environment,
        capture_output=True,
        text=True,
        check=check,
    )


def test_two_builds_of_a_commit_are_the_same_bytes(dist: Path, tmp_path: Path) -> None:
    """Whatever the umask and the time: wheels, source archives, bill of materials, digests."""
    before = os.umask(0o077)
    try:
        make(ROOT, tmp_path / "again")
    finally:
        os.umask(before)
    first = {file.name: file.read_bytes() for file in dist.iterdir()}
    assert {file.name: file.read_bytes() for file in (tmp_path / "again").iterdir()} == first
    kinds = sorted(re.sub(r"-[0-9.]+(?=[-.])", "", name) for name in first)
    assert kinds == [
        *("SHA256SUMS", "sentinel_verify-py3-none-any.whl", "sentinel_verify.tar.gz"),
        *("stream_sentinel-py3-none-any.whl", "stream_sentinel.cdx.json", "stream_sentinel.tar.gz"),
    ]


def test_the_wheel_holds_all_that_the_tree_has(dist: Path) -> None:
    """Every tracked file of a package, the console's scripts and the shipped model too; and no test."""
    (wheel,) = dist.glob("stream_sentinel-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    folders = (
        "core",
        "models",
        "projections",
        "learners",
        "responders",
        "sources",
        "ingest",
        "console",
        "stream_sentinel",
    )
    assert names == tracked(*folders)


def test_the_source_archive_builds_the_same_wheel(dist: Path, tmp_path: Path) -> None:
    """It lacks nothing that building takes."""
    (source,) = dist.glob("stream_sentinel-*.tar.gz")
    with tarfile.open(source) as archive:
        archive.extractall(tmp_path, filter="data")
    (tree,) = tmp_path.iterdir()
    epoch = git(ROOT, "log", "-1", "--format=%ct")
    build = "import os, sys; os.umask(0o022); from setuptools import build_meta as b; b.build_wheel(sys.argv[1])"
    made = tmp_path / "made"
    subprocess.run(
        [sys.executable, "-c", build, str(made)],
        cwd=tree,
        env={**os.environ, "SOURCE_DATE_EPOCH": epoch, "PYTHONPATH": ""},
        check=True,
        capture_output=True,
    )
    (wheel,) = dist.glob("stream_sentinel-*.whl")

    def contents(content: bytes) -> dict[str, bytes]:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return {name: archive.read(name) for name in archive.namelist()}

    assert contents(next(made.iterdir()).read_bytes()) == contents(wheel.read_bytes())


def test_the_wheel_works_in_a_clean_environment(clean: Path) -> None:
    """Command, shipped model, standard program, console and verifier, with no tree in reach."""
    where = run(clean, "python", "-c", "import core, console; print(core.__file__, console.__file__)").stdout
    assert str(ROOT) not in where and str(clean.parent) in where
    version = git(ROOT, "show", "HEAD:pyproject.toml").partition('version = "')[2].partition('"')[0]
    assert version in run(clean, "sentinel", "--version").stdout
    run(clean, "sentinel", "produce", "--check", "--transactions", "200")  # exit code 0: the edge rejects nothing
    ask = """
import hashlib
from console import wiring
from console.web.serving import files
from core.program.library import library
from core.program.shipped import LIBRARIES
from models.shipped import shipped_baseline
content, card = shipped_baseline()
scorer = wiring.load_scorer(content, "1", hashlib.sha256(content).hexdigest())
rules = library(LIBRARIES["standard@1"]).rules
print(scorer.version, len(rules) > 5, "/static/index.html" in files(), "/vendor/preact.js" in files())
"""
    assert run(clean, "python", "-c", ask).stdout.split() == ["1", "True", "True", "True"]
    assert run(clean, "sentinel-verify", "--help").returncode == 0


def test_the_bill_of_materials_lists_what_the_lock_and_the_console_hold(dist: Path) -> None:
    """Each with version, package URL and, of the lock, the hashes that pip checks."""
    (file,) = dist.glob("*.cdx.json")
    bill = msgspec.json.decode(file.read_bytes())
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    lock = git(ROOT, "show", "HEAD:requirements-image.lock")
    pinned = set(re.findall(r"^([a-z0-9._-]+)==(\S+)", lock, re.M))
    found = {(each["name"], each["version"]): each for each in bill["components"]}
    assert pinned <= set(found) and ("preact" in {name for name, _ in found})
    assert sum(len(each.get("hashes", ())) for each in found.values()) == lock.count("--hash=sha256:")
    references = [each["bom-ref"] for each in bill["components"]]
    assert len(set(references)) == len(references)
    assert found["msgspec", dict(pinned)["msgspec"]]["purl"] == f"pkg:pypi/msgspec@{dict(pinned)['msgspec']}"


def test_a_line_that_is_no_entry_of_a_lock_is_refused() -> None:
    """Nothing is left out of the bill without a word."""
    with pytest.raises(ValueError, match="not an entry"):
        locked("name @ file:///somewhere\n")


@pytest.fixture
def signed(dist: Path, tmp_path: Path) -> Path:
    """A copy of the release with a signature by a throw-away key, and the file that lists the key."""
    if shutil.which("ssh-keygen") is None:
        pytest.skip("needs ssh-keygen: apt install openssh-client")
    copy = tmp_path / "release"
    shutil.copytree(dist, copy)
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    public = key.with_suffix(".pub").read_text().split()
    signers = copy / "allowed_signers"
    signers.write_text(f'{IDENTITY} namespaces="{NAMESPACE}" {public[0]} {public[1]}\n')
    subprocess.run(
        ["ssh-keygen", "-Y", "sign", "-q", "-f", str(key), "-n", NAMESPACE, str(copy / "SHA256SUMS")], check=True
    )
    return copy


def instructions() -> str:
    """The commands of docs/release.md that verify a download."""
    section = (ROOT / "docs" / "release.md").read_text().partition("## Verify a download")[2]
    return section.partition("```bash\n")[2].partition("```")[0]


def test_the_printed_instructions_accept_what_was_signed_and_nothing_else(signed: Path) -> None:
    """Run as they stand, in the folder of the download: good files pass; a changed one, and changed digests, don't."""

    def verified() -> bool:
        script = ["bash", "-euo", "pipefail", "-c", instructions()]
        return subprocess.run(script, cwd=signed, capture_output=True, check=False).returncode == 0

    assert verified()
    (wheel,) = signed.glob("stream_sentinel-*.whl")
    good = wheel.read_bytes()
    wheel.write_bytes(good + b" ")
    assert not verified()
    wheel.write_bytes(good)
    assert verified()
    sums = signed / "SHA256SUMS"
    sums.write_text(sums.read_text().replace("a", "b", 1))
    assert not verified()


def test_a_key_that_nobody_lists_signs_nothing(
    dist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The signature is checked against the list before it is left in the folder; a listed key's stays."""
    if shutil.which("ssh-keygen") is None:
        pytest.skip("needs ssh-keygen: apt install openssh-client")
    monkeypatch.setattr("release.__main__.missing", lambda root: [])
    monkeypatch.setattr(
        "release.__main__.make", lambda root, output: [Path(shutil.copytree(dist, output)) / "SHA256SUMS"]
    )
    key, signers = tmp_path / "key", tmp_path / "signers"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    signers.write_text("# nobody\n")
    assert main(["build", str(tmp_path / "a"), "--key", str(key), "--signers", str(signers)]) == 1
    assert "does not list its public key" in capsys.readouterr().err
    assert not (tmp_path / "a" / "SHA256SUMS.sig").exists()
    signers.write_text(f"{IDENTITY} {key.with_suffix('.pub').read_text()}")
    assert main(["build", str(tmp_path / "b"), "--key", str(key), "--signers", str(signers)]) == 0
    assert (tmp_path / "b" / "SHA256SUMS.sig").exists()
    assert main(["build", str(tmp_path / "b"), "--key", str(key)]) == 1  # not empty


def test_a_commit_is_ready_only_with_its_section_key_and_tag(tmp_path: Path) -> None:
    """What is missing is said; what is done is not said again."""
    root = tmp_path / "tree"
    (root / "release").mkdir(parents=True)
    (root / "pyproject.toml").write_text('[project]\nversion = "1.2.3"\n')
    (root / "CHANGELOG.md").write_text("# Changelog\n\n## Unreleased\n\n- new\n\n## 1.2.2 – 2026-01-01\n")
    (root / "release" / "allowed_signers").write_text("# none\n")
    for command in (["init", "-q"], ["config", "user.email", "a@b"], ["config", "user.name", "a"]):
        git(root, *command)

    def commit() -> None:
        git(root, "add", "--all")
        git(root, "commit", "-q", "-m", "x")

    commit()
    assert [each.partition(" ")[0] for each in missing(root)] == [
        "CHANGELOG.md",
        "CHANGELOG.md's",
        "release/allowed_signers",
    ]
    (root / "CHANGELOG.md").write_text("# Changelog\n\n## Unreleased\n\n## 1.2.3 – 2026-02-02\n\n- new\n")
    (root / "release" / "allowed_signers").write_text(f"{IDENTITY} ssh-ed25519 AAAA\n")
    assert [each.partition(":")[0] for each in missing(root)] == ["files that are not committed"]
    commit()
    assert list(missing(root)) == []
    git(root, "tag", "v1.2.3")
    assert list(missing(root)) == []
    (root / "new").write_text("x")
    commit()
    assert [each.partition(" is")[0] for each in missing(root)] == ["the tag v1.2.3"]
