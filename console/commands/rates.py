"""`sentinel rates`: the base currency, what other currencies are worth in it, and every change of them."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from console.acts import Actor, Reason, act_of, print_proposed
from console.commands.threshold import print_policy
from console.log_options import AsOf, opened_log, opened_states, options
from console.options import Json
from console.tables import print_fields, print_json, print_table, time_text
from core.currency import ISO_4217, code
from core.errors import BadInput
from core.toml_text import parse_toml
from learners.governance import business
from projections.views.registry import REGISTRY
from projections.views.registry_answers import policy_history

app = typer.Typer(help="Currencies and their rates: show, set, history.", no_args_is_help=True, rich_markup_mode=None)
app.callback()(options)


@app.command()
def show(context: typer.Context, as_of: AsOf = None, as_json: Json = False) -> None:
    """Show the base currency and the rates in force.

    A rate is what one unit of a currency is worth in the base currency.
    """
    with opened_states(context, as_of) as states:
        registry, moment = states.of_control(REGISTRY), states.as_of
    last = next((edit for edit in reversed(policy_history(registry, "rates")) if not edit.refused), None)
    if as_json:
        print_json({"as_of": moment, "base": registry.base, "rates": registry.rates, "set": last})
        return
    print_table(
        ("currency", "rate"),
        [{"currency": name, "rate": f"{rate:.10g}"} for name, rate in sorted(registry.rates.items())],
    )
    print_fields(
        {
            "base": registry.base or "none: amounts are compared as they are",
            "since": time_text(last.occurred_at) if last else "",
            "actor": last.actor if last else "",
            "reason": last.reason if last else "",
            "as_of": moment,
        }
    )


@app.command("set")
def set_rates(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="Rates by currency: .csv (currency,rate), .json or .toml.")],
    reason: Reason,
    base: Annotated[str, typer.Option("--base", help="Base currency. Default: the file's, or the log's.")] = "",
    actor: Actor = "",
    as_json: Json = False,
) -> None:
    """Set all rates at once, from the workers' next batch on. A rate is what one unit is worth in the base currency.

    sentinel rates set rates.csv --base EUR --reason "rates of 1 March"

    A currency without a rate is decided at rate 1 and sent to review by rule UNKNOWN_CURRENCY.
    """
    found = read_rates(file)
    if base and found.base and code(base) != code(found.base):
        raise BadInput(f"--base is {base}, but {file} is based on {found.base}")
    with opened_log(context) as log:
        done = business.set_rates(log, act_of(actor, reason, log), found.rates, base or found.base)
    rates = done.state.rates
    for each in (rates.base, *rates.by_code):
        if each not in ISO_4217:
            print(f"warning: {each} is not a currency of ISO 4217; check the spelling", file=sys.stderr)
    if as_json:
        print_json(
            {"position": done.position, "changed": done.changed, "base": rates.base, "rates": rates.by_code}
            | {"proposals": done.proposals}
        )
        return
    print(f"{len(rates.by_code):,} rates in {rates.base} at c{done.position}{'' if done.changed else ': unchanged'}")
    print_proposed(done.proposals)


@app.command()
def history(context: typer.Context, as_of: AsOf = None, as_json: Json = False) -> None:
    """Show every change, oldest first: who made it, when and why. Refused changes too."""
    with opened_states(context, as_of) as states:
        edits, moment = policy_history(states.of_control(REGISTRY), "rates"), states.as_of
    if as_json:
        print_json({"as_of": moment, "history": edits})
        return
    print_policy(edits)
    print_fields({"changes": len(edits), "as_of": moment})


class RatesFile(NamedTuple):
    """Rates by currency as written; base: "" if the file names none."""

    rates: dict[str, float]
    base: str = ""


def read_rates(file: Path) -> RatesFile:
    """The file's rates. JSON and TOML: an object of rates, or `base` and an object `rates`. Raises BadInput."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise BadInput(f"can't read {file}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise BadInput(f"{file} is not UTF-8: {error.reason} at byte {error.start}") from None
    if file.suffix == ".csv":
        return RatesFile(_csv(file, text))
    try:
        held = parse_toml(text) if file.suffix == ".toml" else _json(text) if file.suffix == ".json" else None
    except BadInput as error:
        raise BadInput(f"{file}: {error}") from None
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{file} is not valid {file.suffix[1:].upper()}: {error}") from None
    if held is None:
        raise BadInput(f"{file} must end in .csv, .json or .toml")
    base, rates = "", held
    if isinstance(held, dict) and "rates" in held:
        base, rates = held.get("base", ""), held["rates"]
        if unknown := set(held) - {"base", "rates"}:
            raise BadInput(f"{file}: unknown key {min(unknown)!r}; expected base and rates")
    if not isinstance(rates, dict) or not isinstance(base, str):
        raise BadInput(f'{file} holds no rates by currency, such as {{"base": "EUR", "rates": {{"USD": 0.92}}}}')
    return RatesFile({name: _number(file, name, value) for name, value in rates.items()}, base)


def _json(text: str) -> Any:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(found := dict(pairs)) != len(pairs):
            raise ValueError("a key stands twice in one object")
        return found

    return json.loads(text, object_pairs_hook=once)


def _csv(file: Path, text: str) -> dict[str, float]:
    rates: dict[str, float] = {}
    for number, row in enumerate(csv.reader(io.StringIO(text)), 1):
        cells = [cell.strip() for cell in row]
        if not any(cells) or (number == 1 and [cell.lower() for cell in cells] == ["currency", "rate"]):
            continue
        if len(cells) != 2:
            raise BadInput(f"{file}, line {number}: expected currency,rate, got {len(cells)} cells")
        if cells[0] in rates:
            raise BadInput(f"{file}, line {number}: the rate of {cells[0]} is given twice")
        rates[cells[0]] = _number(f"{file}, line {number}", cells[0], cells[1])
    return rates


def _number(where: object, name: str, value: Any) -> float:
    if isinstance(value, (dict, list)):
        raise BadInput(f"{where}: the rate of {name} must be a number, not an object or an array")
    try:
        if isinstance(value, bool):
            raise ValueError
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise BadInput(f"{where}: the rate of {name} must be a number, not {value!r}") from None
