"""The bill of materials (CycloneDX 1.6, JSON): what runs beside our code, from the lock and the console's own copies.

Everything that the lock may install on any supported platform is listed, with its marker; the hashes are those that
pip checks, of all of a version's files.
"""

from __future__ import annotations

import re
import tomllib
import uuid
from datetime import UTC, datetime
from typing import Any

import msgspec

_ENTRY = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)(?:\s*;\s*([^\\]+?))?\s*\\?$")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
_NAMESPACE = uuid.UUID("7f0a7a52-4a45-5c1c-9a0e-0f6a4f2f5a44")


def locked(lock: str) -> list[dict[str, Any]]:
    """The components that a lock names, by name and version. Raises ValueError for a line that is none."""
    found: list[dict[str, Any]] = []
    for line in lock.splitlines():
        if entry := _ENTRY.match(line):
            name, version, marker = entry[1].lower(), entry[2], entry[3]
            component = _component("pypi", name, version)
            if marker:
                component["properties"] = [{"name": "python:marker", "value": marker.strip()}]
            component["hashes"] = []
            found.append(component)
        elif hashes := _HASH.findall(line):
            found[-1]["hashes"] += [{"alg": "SHA-256", "content": each} for each in hashes]
        elif line.strip() and not line.lstrip().startswith("#"):
            raise ValueError(f"not an entry of a lock: {line!r}")
    return found


def vendored(text: str) -> list[dict[str, Any]]:
    """The components that the web console holds as files (console/web/vendor/VENDORED.toml)."""
    made = []
    for file in tomllib.loads(text)["files"]:
        for name, about in file.get("packages", {}).items():
            component = _component("npm", name, about["version"])
            component["licenses"] = [{"license": {"id": about["licence"]}}]
            made.append(component)
    return made


def bill(name: str, version: str, epoch: int, components: list[dict[str, Any]]) -> bytes:
    """The document for a release. epoch: its time, s."""
    components = sorted(components, key=lambda each: str(each["bom-ref"]))
    main = _component("pypi", name, version) | {"type": "application", "licenses": [{"license": {"id": "MIT"}}]}
    body = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": main,
        },
        "components": components,
        "dependencies": [{"ref": main["bom-ref"], "dependsOn": [each["bom-ref"] for each in components]}],
    }
    number = uuid.uuid5(_NAMESPACE, msgspec.json.encode(body).decode())
    return msgspec.json.format(msgspec.json.encode({**body, "serialNumber": f"urn:uuid:{number}"}), indent=1) + b"\n"


def _component(registry: str, name: str, version: str) -> dict[str, Any]:
    purl = f"pkg:{registry}/{name.replace('@', '%40')}@{version}"
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}
