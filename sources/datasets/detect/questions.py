"""What only a person can answer, and the answers given so far."""

from __future__ import annotations

from dataclasses import dataclass, field

from core.errors import BadInput


@dataclass(frozen=True, slots=True)
class Answers:
    """What the person said; None or empty where it is to be found out. Options of `sentinel map` have the same names.

    columns: our field (or time, label, debit, credit, scenario) → column, or several separated by commas.
    """

    encoding: str | None = None
    separator: str | None = None
    header: int | None = None
    sheet: str | None = None
    decimal: str | None = None
    dates: str | None = None
    time_format: str | None = None
    zone: str | None = None
    negative: str | None = None
    fraud: tuple[str, ...] = ()
    legitimate: tuple[str, ...] = ()
    unlabelled: tuple[str, ...] = ()
    columns: dict[str, str] = field(default_factory=dict)
    constants: dict[str, str] = field(default_factory=dict)


class Question(BadInput):
    """The file leaves something open. key: the field of Answers that settles it; choices: what may be answered, empty
    for any text; for `columns` and `constants`, `name` is the key within them.
    """

    def __init__(self, asked: str, key: str, option: str, choices: tuple[str, ...] = (), name: str = "") -> None:
        super().__init__(f"{asked}; say so with {option}", reason="ambiguous")
        self.asked = asked
        self.key = key
        self.choices = choices
        self.name = name
