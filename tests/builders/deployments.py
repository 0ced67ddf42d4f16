"""The processes that docker/, deploy/helm and deploy/systemd start, in one form: what they run, with which environment
and which files. Paths are those of the container or the host; `settings_of` lays them into a folder.
"""

from __future__ import annotations

import datetime
import os
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import yaml  # type: ignore[import-untyped]
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding

from console import identity_keys, profiles
from console.processes import PROCESSES
from core.settings import Settings, load
from tests.builders import image_files

ROOT = image_files.ROOT
DOCKER = ROOT / "docker"
SYSTEMD = ROOT / "deploy" / "systemd"
CHART = ROOT / "deploy" / "helm" / "stream-sentinel"
IMAGES = ("stream-sentinel", "${IMAGE:-stream-sentinel}")
"""What compose files call the image of ours."""

WANTED = {process.arguments[0]: process.arguments[1:] for process in PROCESSES if not process.only}
WANTED |= {"anchor": ("--follow",), "archive": ()}
"""The commands of a whole deployment: those of `sentinel run`, the notary and the archiver."""
UNUSED = {
    "ingest": frozenset[str](),
    "serve": frozenset[str](),
    "respond": profiles.WITHOUT_VAULT,
    **dict.fromkeys(("reference", "learn", "anchor", "archive"), profiles.LOG_ONLY),
}
"""What each of them needs no secret for."""
_ROOTS = ("/run/", "/etc/sentinel", "/var/lib/", "/app/")


class Deployed(NamedTuple):
    """One process. commands: the arguments of each `sentinel` that it runs. files: those that it is given, beside what
    it writes itself. question: the URL path of its health check; "" for the image's.
    """

    name: str
    commands: tuple[tuple[str, ...], ...]
    environment: dict[str, str]
    files: frozenset[str]
    question: str = ""

    @property
    def command(self) -> str:
        """The command that it runs for good."""
        return self.commands[-1][0]


def of_compose(file: str) -> list[Deployed]:
    """The processes of ours in a compose file, without those for commands by hand."""
    services = compose(file)["services"]
    return [_of_service(name, each) for name, each in services.items() if each.get("image") in IMAGES]


def compose(file: str) -> dict[str, Any]:
    """A compose file as it is written, with its anchors and merges resolved."""
    found: dict[str, Any] = yaml.safe_load((DOCKER / file).read_text())
    return found


def interpolated(value: object) -> str:
    """What compose makes of a value when no variable is set."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


def _of_service(name: str, service: Mapping[str, Any]) -> Deployed:
    words = [str(each) for each in service["command"]]
    commands = tuple(scripted(words[-1])) if "entrypoint" in service else (tuple(words),)
    given = {key: interpolated(value) for key, value in service.get("environment", {}).items()}
    files = {each["target"] for each in service.get("configs", ())}
    files |= {f"/run/secrets/{each['target']}" for each in service.get("secrets", ())}
    test = service.get("healthcheck", {}).get("test", "")
    question = next(iter(re.findall(r"/(?:livez|readyz)", str(test))), "")
    return Deployed(name, commands, image_files.defaults() | given, frozenset(files), question)


def scripted(script: str) -> Iterator[tuple[str, ...]]:
    """The `sentinel` commands of a shell script, in order."""
    for found in re.findall(r"\bsentinel ([^;&|\n]+)", script):
        yield tuple(shlex.split(found))


def of_units() -> list[Deployed]:
    """The processes of the systemd units; of a template, instance 1."""
    shared = _assignments((SYSTEMD / "sentinel.env").read_text().splitlines())
    return [_of_unit(path, shared) for path in sorted(SYSTEMD.glob("*.service"))]


def _of_unit(path: Path, shared: Mapping[str, str]) -> Deployed:
    text = path.read_text()
    for specifier, value in {"%i": "1", "%H": "host", "%d": "/run/credentials"}.items():
        text = text.replace(specifier, value)
    lines = [line.partition("=") for line in text.splitlines() if "=" in line and line[0] != "#"]
    commands = tuple(tuple(shlex.split(value)[1:]) for name, _, value in lines if name == "ExecStart")
    own = _assignments(word for name, _, value in lines if name == "Environment" for word in shlex.split(value))
    given = {value.partition(":")[0] for name, _, value in lines if name == "LoadCredential"}
    files = {f"/run/credentials/{each}" for each in given} | {"/etc/sentinel/settings.toml"}
    return Deployed(path.stem.removeprefix("sentinel-").rstrip("@"), commands, {**shared, **own}, frozenset(files))


def _assignments(lines: Iterable[str]) -> dict[str, str]:
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def of_chart(manifests: Iterable[Mapping[str, Any]]) -> list[Deployed]:
    """The processes of a rendered chart."""
    return [_of_pod(pod) for manifest in manifests for pod in pods(manifest)]


def pods(manifest: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The pod template of a workload; nothing of another manifest."""
    spec = manifest.get("spec", {})
    if manifest["kind"] == "CronJob":
        spec = spec["jobTemplate"]["spec"]
    if manifest["kind"] in ("CronJob", "Deployment", "StatefulSet"):
        yield spec["template"]["spec"]


def _of_pod(pod: Mapping[str, Any]) -> Deployed:
    (container,) = pod["containers"]
    words = container["args"]
    commands = tuple(scripted(words[-1])) if "command" in container else (tuple(words),)
    given = {each["name"]: str(each.get("value", "pod-0")) for each in container["env"]}
    mounted = {each["mountPath"] for each in container["volumeMounts"] if each.get("readOnly")}
    files = {value for value in given.values() if any(value.startswith(f"{folder}/") for folder in mounted)}
    question = container.get("livenessProbe", {}).get("httpGet", {}).get("path", "")
    return Deployed(container["name"], commands, image_files.defaults() | given, frozenset(files), question)


def laid_out(deployed: Deployed, folder: Path) -> dict[str, str]:
    """The environment with all paths moved into the folder. The folders of those paths exist."""
    found = {name: value for name, value in deployed.environment.items() if name != "SENTINEL_KERNELS"}
    for name, value in found.items():
        if value.startswith(_ROOTS):
            found[name] = f"{folder}{value}"
            Path(found[name]).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    return found


def settings_of(deployed: Deployed, settings_file: str, folder: Path) -> Settings:
    """The settings that the process has, with files of made-up content for those that it is given, and no others.

    settings_file: the text of the one that it names. Raises BadInput as `core.settings.load`.
    """
    environment = laid_out(deployed, folder)
    for file in deployed.files:
        path = Path(f"{folder}{file}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_content(path.name))
        path.chmod(0o600)
    config = Path(environment["SENTINEL_CONFIG"])
    config.write_text(moved(settings_file, folder))
    return load(environment, config)


def moved(text: str, folder: Path) -> str:
    """A settings file with all paths moved into the folder."""
    return re.sub(r'"(/(?:run|etc|var)/[^"]+)"', lambda found: f'"{folder}{found[1]}"', text)


def _content(name: str) -> bytes:
    if name == "identity.pem":
        return f"Name: tested\n{identity_keys.new('tested').pem(b'').decode()}".encode()
    if name == "ca.crt":
        return authority()
    return b"ab" * 32


def authority() -> bytes:
    """A certificate of an authority, in PEM."""
    key, name = generate_private_key(SECP256R1()), x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "tested")])
    start = datetime.datetime(2026, 1, 1)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    return (
        made.not_valid_before(start)
        .not_valid_after(start.replace(year=2036))
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.PEM)
    )


def parsed_by_the_program(files: Path, commands: Iterable[tuple[str, ...]]) -> str:
    """What the program of the image's files says of these command lines: "" if it would run each of them."""
    done = image_files.run(files, _PARSE, msgspec.json.encode([*commands]).decode(), environment=dict(os.environ))
    return done.stderr or ("" if done.returncode == 0 else f"exit code {done.returncode}")


_PARSE = """
import json
import typer
from console.cli import COMMANDS, application
lines = json.loads(sys.argv[2])
names = sorted({name for name, *_ in lines})
assert {*names} <= {*COMMANDS}, f"no such command: {names}"
group = typer.main.get_command(application(names))
context = group.make_context("sentinel", [], resilient_parsing=True)
for name, *arguments in lines:
    group.get_command(context, name).make_context(name, arguments, parent=context)
"""
