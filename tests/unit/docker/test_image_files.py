"""The image holds all that the program needs: it runs from exactly the files that docker/Dockerfile copies."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from core.settings import Settings, environment_name
from tests.builders.image_files import ROOT, SENTINEL, copied, laid, run

IMPORT_ALL = """
import importlib, pkgutil
for found in pkgutil.walk_packages([str(copy)]):
    importlib.import_module(found.name)
checkout = {path.name for path in Path(sys.argv[2]).iterdir() if path.is_dir()}
ours = {name: module for name, module in sys.modules.items() if name.partition(".")[0] in checkout}
print(len(ours), *(name for name, module in ours.items() if copy not in Path(module.__file__).parents))
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the image holds."""
    return laid(tmp_path_factory.mktemp("image"), copied())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--help"], "demo"),
        (["--version"], "stream-sentinel"),
        (["bench", "--help"], "pipeline"),
        (["bench", "pipeline", "--help"], "--external"),
    ],
)
def test_the_program_runs_from_the_files_of_the_image(files: Path, arguments: list[str], said: str) -> None:
    """Help and version need every command's module; a folder that is not copied fails here, not in production."""
    done = run(files, SENTINEL, *arguments)
    assert done.returncode == 0, done.stderr
    assert said in done.stdout


def test_every_module_of_the_image_finds_what_it_imports(files: Path) -> None:
    """Also those that are loaded only when they are used, or run as processes of their own."""
    done = run(files, IMPORT_ALL, str(ROOT))
    assert done.returncode == 0, done.stderr
    count, *strays = done.stdout.split()
    assert int(count) > 100
    assert strays == []


def test_a_folder_that_is_not_copied_is_noticed(tmp_path: Path) -> None:
    """The tests above can fail: nothing leaks in from this checkout."""
    files = laid(tmp_path, [source for source in copied() if source != "sources"])
    done = run(files, SENTINEL, "--help")
    assert done.returncode != 0
    assert "ModuleNotFoundError" in done.stderr


def test_the_build_context_holds_what_is_copied() -> None:
    """docker/Dockerfile.dockerignore leaves out everything else, so it must name each of them."""
    lines = (ROOT / "docker" / "Dockerfile.dockerignore").read_text().splitlines()
    assert sorted(copied()) == sorted(line[1:] for line in lines if line.startswith("!"))


def test_the_settings_that_the_containers_are_given_exist() -> None:
    """An environment variable of a setting that was removed or renamed would silently do nothing."""
    known = {environment_name(field) for field in Settings.__struct_fields__} | {"SENTINEL_CONFIG", "SENTINEL_KERNELS"}
    ours = re.compile(
        r"\b((?:STREAM_)?SENTINEL_[A-Z_]+|FRAUD_THRESHOLD|CONSUMER_GROUP|(?:KAFKA|REDIS)_(?:USERNAME|SERVERS|HOST|PORT))\b"
    )
    placed = [path for room in ("docker", "deploy") for path in (ROOT / room).rglob("*") if path.is_file()]
    texts = {path: path.read_text() for path in placed if not {"grafana", "secrets"} & {*path.parts}}
    assert len([path for path, text in texts.items() if ours.search(text)]) >= 12
    for path, text in texts.items():
        assert set(ours.findall(text)) <= known, path
