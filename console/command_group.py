"""A group of commands whose own options may stand where people put them: before the subcommand, or after it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from typer.core import TyperGroup


class Group(TyperGroup):
    """See the module's docstring. An option that the subcommand has itself stays the subcommand's."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The subcommand, and what is left for it once the group's options are taken out."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command, rest if command is None else self._taken(ctx, command, rest)

    def _taken(self, ctx: Any, command: Any, words: Sequence[str]) -> list[str]:
        theirs, own = options_of(command), options_of(self)
        mine = {name: each for name, each in own.items() if name not in theirs and each.expose_value}
        kept: list[str] = []
        given: dict[str, list[Any]] = {}
        rest = iter(words)
        for word in rest:
            name, _, value = word.partition("=")
            if word == "--":
                kept += [word, *rest]
            elif name in mine and mine[name].is_flag:
                given.setdefault(name, []).append(name in mine[name].opts)
            elif name in mine:
                given.setdefault(name, []).append(value if "=" in word else _next(ctx, name, rest))
            else:
                kept.append(word)
                if word in theirs and not theirs[word].is_flag:
                    kept += [each for each in [next(rest, None)] if each is not None]
        for name, values in given.items():
            option = mine[name]
            ctx.params[option.name] = option.process_value(ctx, values if option.multiple else values[-1])
        return kept


def options_of(command: Any) -> dict[str, Any]:
    """A command's options by each of their names."""
    found = (each for each in command.params if each.param_type_name == "option")
    return {name: each for each in found for name in (*each.opts, *each.secondary_opts)}


def _next(ctx: Any, name: str, words: Any) -> str:
    value: str | None = next(words, None)
    if value is None:
        ctx.fail(f"Option '{name}' requires an argument.")
    assert value is not None
    return value
