"""`sentinel completion`: the script with which a shell completes commands and options."""

from __future__ import annotations

from typing import Annotated

import typer

from console.completing import SHELLS, script
from core.errors import BadInput


def completion(shell: Annotated[str, typer.Argument(metavar="bash|zsh|fish", help="The shell.")]) -> None:
    """Print a shell's completion script.

    bash: add `eval "$(sentinel completion bash)"` to ~/.bashrc. zsh: the same in ~/.zshrc, after compinit. fish:
    `sentinel completion fish > ~/.config/fish/completions/sentinel.fish`.
    """
    if shell not in SHELLS:
        raise BadInput(f"there is no completion for {shell!r}; there is for {', '.join(SHELLS)}")
    print(script(shell))
