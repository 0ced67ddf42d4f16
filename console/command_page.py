"""The page of all commands, docs/commands.md, and the exit codes that it and `sentinel --help` tell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from console.completing import Words
from core import errors
from core.errors import SentinelError

INTERRUPTED = 130
_OWN = {
    0: "done; of a service: it was asked to stop, and did",
    SentinelError.exit_code: "a check failed, or nothing was found",
    INTERRUPTED: "interrupted by Ctrl-C",
}
_HEAD = """# Commands

Every command has `--help` (`-h`), and `--json` where a script may read its output; answers go to stdout, all else to
stderr. Options of a group (`sentinel query --redis-port 6380 stats`) may also stand after its subcommand.
`eval "$(sentinel completion bash)"` completes commands and options.

A mistake is one line on stderr that says what to do, and an exit code. Ctrl-C ends every command with one line; a
service (`run`, `ingest`, `respond`, `serve`, `sample`) finishes what it has begun, as at SIGTERM.

| exit code | means |
|---|---|
"""


def exit_codes() -> dict[int, str]:
    """What each exit code means: from the errors' own words, and what is no error."""
    found = {
        each.exit_code: (each.__doc__ or "").partition(". ")[0].partition("\n\n")[0]
        for each in vars(errors).values()
        if isinstance(each, type) and issubclass(each, SentinelError) and SentinelError in each.__bases__
    }
    told = {code: " ".join(text.split()) for code, text in found.items()}
    return dict(sorted({**told, **_OWN}.items()))


def epilogue() -> str:
    """The end of `sentinel --help`."""
    codes = {2: "bad input", 3: "corrupt data", 4: "unavailable", 5: "somebody was first", 6: "not decidable here"}
    words = {0: "done", 1: "failed or nothing found", **codes, INTERRUPTED: "interrupted"}
    return "Exit codes: " + ", ".join(f"{code} {words[code]}" for code in exit_codes()) + " (docs/commands.md)."


def markdown(sections: Mapping[str, Iterable[str]], words: Mapping[str, Words]) -> str:
    """The page: exit codes, and every command with its subcommands. words: of `console.completing.words_of`."""
    rows = [f"| {code} | {text[:1].lower()}{text[1:].rstrip('.')} |" for code, text in exit_codes().items()]
    for title, names in sections.items():
        rows += ["", f"## {title}", "", "| command | does |", "|---|---|"]
        for name in names:
            rows.append(f"| `sentinel {name}` | {words[''].commands[name]} |")
            rows += [f"| `sentinel {name} {below}` | {text} |" for below, text in words[name].commands.items()]
    return _HEAD + "\n".join(rows) + "\n"
