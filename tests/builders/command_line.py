"""`sentinel` as its users type it, in the test's own process."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
import pytest

from console import cli


class Ran(NamedTuple):
    """How a command ended, and what it wrote to each stream."""

    code: int
    out: str
    err: str

    @property
    def told(self) -> tuple[int, str]:
        """(exit code, all that it said)."""
        return self.code, self.out + self.err

    @property
    def json(self) -> Any:
        """Its last line."""
        return msgspec.json.decode(self.out.splitlines()[-1])


def run_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object) -> Ran:
    """Run it to its end; what was written before is dropped. A traceback is an error of the test."""
    monkeypatch.setattr("sys.argv", ["sentinel", *map(str, arguments)])
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        cli.main()
    out, err = capsys.readouterr()
    return Ran(int(ended.value.code or 0), out, err)
