"""Digests of a release's files, and the signature over them: OpenSSH's, which `ssh-keygen` verifies everywhere.

One signature covers SHA256SUMS, and SHA256SUMS covers the files. The key is an Ed25519 key of `ssh-keygen`, on a
security key too (`-t ed25519-sk`). Whose keys count is said by `release/allowed_signers`, in the repository.
"""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

SUMS = "SHA256SUMS"
NAMESPACE = "stream-sentinel-release"
IDENTITY = "release@stream-sentinel"


class NotSigned(Exception):
    """There is no signature, or not one that counts; the text says why."""


def write_sums(directory: Path) -> Path:
    """Write the digests of all files in a folder, but those of an earlier call, as `sha256sum --check` reads them."""
    sums = directory / SUMS
    (directory / f"{SUMS}.sig").unlink(missing_ok=True)
    files = sorted(file for file in directory.iterdir() if file.is_file() and file != sums)
    sums.write_text(
        "".join(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files), encoding="utf-8"
    )
    return sums


def sign(sums: Path, key: Path, signers: Path) -> Path:
    """Sign the digests; returns the signature. Raises NotSigned if the key can't be used, or `signers` lacks it."""
    _run("sign", "-q", "-f", str(key), "-n", NAMESPACE, str(sums))
    signature = sums.with_name(f"{SUMS}.sig")
    try:
        verify(sums, signature, signers)
    except NotSigned as error:
        signature.unlink()
        raise NotSigned(f"{key} signs, but {signers} does not list its public key: {error}") from None
    return signature


def verify(sums: Path, signature: Path, signers: Path) -> None:
    """Raise NotSigned unless one of `signers` signed these digests."""
    _run(
        *("verify", "-q", "-f", str(signers), "-I", IDENTITY, "-n", NAMESPACE, "-s", str(signature)),
        standard_input=sums.read_bytes(),
    )


def _run(*arguments: str, standard_input: bytes | None = None) -> None:
    try:
        done = subprocess.run(["ssh-keygen", "-Y", *arguments], input=standard_input, capture_output=True, check=False)
    except FileNotFoundError:
        raise NotSigned("ssh-keygen is not installed (OpenSSH 8.1 or later)") from None
    if done.returncode:
        said = (done.stderr or done.stdout).decode(errors="replace").strip()
        raise NotSigned(said or f"ssh-keygen ended with {done.returncode}")
