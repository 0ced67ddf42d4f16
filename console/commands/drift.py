"""`sentinel drift`: have the model's inputs or its performance changed since the reference? One look, or a monitor."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from console import wiring
from console.follower_health import followed
from console.following import run_steps
from console.options import Config, Json, LogPrefix, RedisHost, RedisPort
from core.errors import BadInput
from core.events import DriftCleared, DriftDetected
from core.partitions import partitions_of
from core.times import DAY_MS, HOUR_MS
from learners.drift.compare import FeatureDrift, Window
from learners.drift.look import Look, Looker, TooEarly
from learners.drift.monitor import DriftMonitor
from learners.drift.policy import DriftConfig
from learners.drift.statistics import EFFECTS
from learners.drift.windows import WindowReader
from projections.engine.as_of import parse_time
from projections.labelling.reader import LabelReader

WINDOW_DAYS = (1, 3, 7)
LOOK_S = 3600.0
"""How long a look may take."""


def drift(
    config: Config = None,
    redis_host: RedisHost = None,
    redis_port: RedisPort = None,
    log_prefix: LogPrefix = None,
    as_of: Annotated[
        str | None,
        typer.Option(
            help="End of the current window, event time (2026-03-01T12:00Z). Default: the newest complete step."
        ),
    ] = None,
    window_days: Annotated[
        list[int] | None,
        typer.Option(help="Length of a window of payments in days; repeat it for several. Default: 1, 3, 7.", min=1),
    ] = None,
    reference_days: Annotated[
        int, typer.Option(help="Length of the reference window in days: whole weeks.", min=7)
    ] = 14,
    reference_start: Annotated[
        str | None,
        typer.Option(help="Start of the reference window, event time. Default: the champion's first decision."),
    ] = None,
    settle_days: Annotated[
        float, typer.Option(help="Days of log to skip before the default reference: accounts lack history.", min=0)
    ] = 38,
    maturity_days: Annotated[
        float, typer.Option(help="Label maturity in days: use verdicts up to this long after each payment.", min=0)
    ] = 7,
    share: Annotated[float, typer.Option(help="Share of accounts to read, sampled by hash.")] = 1.0,
    every_hours: Annotated[
        float, typer.Option(help="Hours of event time between looks; windows end on this grid.", min=0.25)
    ] = 24,
    publish: Annotated[
        bool, typer.Option("--publish", help="Append DriftDetected and DriftCleared to the control stream.")
    ] = False,
    follow: Annotated[bool, typer.Option("--follow", help="Keep running: one look per step of event time.")] = False,
    interval_s: Annotated[float, typer.Option(help="With --follow: polling interval in seconds.", min=0.1)] = 5.0,
    plots: Annotated[
        Path | None, typer.Option(help="Directory for effects.png and one plot per drifted feature.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Also list features that are not tested, and why.")] = False,
    as_json: Json = False,
) -> None:
    """Compare the newest decisions with a reference: every feature, the score, alerts, reported frauds, performance.

    A figure has drifted if its effect size reaches the floor and its p-value, corrected for clustered rows and adjusted
    over all figures and daily looks of eight weeks, is at most 0.05. Reads only, unless --publish is given; publishing
    the same look twice has no further effect. Exit code 0 whether or not there is drift, and if it is too early.
    """
    settings = DriftConfig(
        windows_ms=tuple(days * DAY_MS for days in sorted(set(window_days or WINDOW_DAYS))),
        reference_ms=reference_days * DAY_MS,
        settle_ms=round(settle_days * DAY_MS),
        maturity_ms=round(maturity_days * DAY_MS),
        step_ms=round(every_hours * HOUR_MS),
    )
    if follow and as_of is not None:
        raise BadInput("--follow can't be combined with --as-of")
    s = wiring.settings(config, redis_host=redis_host, redis_port=redis_port, log_prefix=log_prefix)
    with closing(wiring.open_log(s)) as log:
        partitions = partitions_of(log)
        reader = WindowReader(log, partitions, share)
        looker = Looker(reader, LabelReader(log, partitions), settings, _given_reference(reference_start, settings))
        monitor = DriftMonitor(log, looker, settings)
        last = 0

        def next_look() -> None:
            nonlocal last
            end = _moment(as_of, "--as-of") if as_of is not None else looker.newest()
            if end > last:
                last = end
                found = one_look(monitor, end, publish)
                if isinstance(found, TooEarly):
                    if not follow:
                        _too_early(found, as_json)
                else:
                    show(*found, everything, as_json)
                    if plots is not None:
                        _plot(found[0], monitor, plots)

        health = followed(s, log, LOOK_S) if follow else None
        run_steps(next_look, follow=follow, interval_s=interval_s, health=health)


def one_look(
    monitor: DriftMonitor, end: int, publish: bool
) -> tuple[Look, Sequence[DriftDetected | DriftCleared]] | TooEarly:
    """The look at `end`, and what it published; or that the log is too short for one."""
    try:
        if publish:
            return monitor.step(end, int(time.time() * 1000))
        return monitor.look(end), []
    except TooEarly as early:
        return early


def _too_early(early: TooEarly, as_json: bool) -> None:
    """A young log is no mistake of whoever asks: the answer is when there will be one."""
    print(msgspec.json.encode({"look": None, "too_early": str(early)}).decode() if as_json else str(early), flush=True)


def _given_reference(start: str | None, config: DriftConfig) -> Window | None:
    if start is None:
        return None
    begin = _moment(start, "--reference-start")
    return Window(begin, begin + config.reference_ms)


def _moment(text: str, option: str) -> int:
    moment = parse_time(text)
    if moment is None:
        raise BadInput(f"{option} {text!r} is not a valid time; write it as 2026-03-01T12:00Z")
    return moment


# --- output ---------------------------------------------------------------------------------------------------------


def show(look: Look, published: Sequence[DriftDetected | DriftCleared], everything: bool, as_json: bool) -> None:
    """Print one look."""
    if as_json:
        print(
            msgspec.json.encode({"look": look, "drifted": look.drifted, "published": list(published)}).decode(),
            flush=True,
        )
        return
    earlier, later = _left_out(look.reference_left_out), _left_out(look.left_out)
    print(f"reference  {_span(look.reference)}  {look.reference_rows:>10,} decisions{earlier}")
    print(f"current    {_span(look.current)}  {look.rows:>10,} decisions{later}, and shorter windows that end with it")
    print()
    titles = "".join(f"{each.title:>8}" for each in EFFECTS)
    print(f"{'figure':28}{'days':>5}{titles}{'missing':>16}{'rows/eff.':>11}{'p adj.':>10}  severity")
    tested = [each for each in look.features if each.state == "tested"]
    for each in sorted(tested, key=lambda f: (-f.level, f.p_value_adjusted, f.p_value)):
        print(_line(each))
    others = [each for each in look.features if each.state != "tested"]
    if everything:
        for each in others:
            print(f"{each.feature:28}{each.state.replace('_', ' ')}")
    elif others:
        print(f"({len(others)} not tested; list them with --all)")
    _show_labels(look)
    for event in published:
        word = f"detected, {event.severity}" if isinstance(event, DriftDetected) else "cleared"
        print(f"published: {event.feature} {word}")
    print(f"\n{len(look.drifted)} of {len(tested)} drifted", flush=True)


def _left_out(count: int) -> str:
    return f" ({count:,} of another engine or feature spec left out)" if count else ""


def _line(each: FeatureDrift) -> str:
    effects = "".join(f"{each.effects[e.name]:8.3f}" if e.name in each.effects else f"{'':8}" for e in EFFECTS)
    missing = "{:.1%} → {:.1%}".format(*each.missing) if max(each.missing) >= 0.0005 else ""
    return (
        f"{each.feature:28}{each.window_ms / DAY_MS:>5g}{effects}{missing:>16}{each.design_effect:>11.1f}"
        f"{each.p_value_adjusted:>10.2g}  {each.severity or ''}"
    )


def _show_labels(look: Look) -> None:
    labels = look.labels
    if labels is None:
        print("\nperformance: not available until the reference and a week after it have mature labels")
        return
    before, now, expected = labels.before, labels.now, labels.estimate
    print(f"\nperformance, {_span(labels.current)}, labels as of {_days(look, labels.current)} days after each payment")
    print(f"{'':24}{'reference':>26}{'now':>26}{'p adj.':>10}  severity")
    found = {each.feature.partition(":")[2]: each for each in labels.features}
    rows: list[tuple[str, ...]] = [
        ("frauds", f"{before.frauds:,} of {before.rows:,}", f"{now.frauds:,} of {now.rows:,}", ""),
        ("auc_roc", _interval(before.auc_roc), _interval(now.auc_roc), "auc_roc"),
        (
            "average_precision",
            _interval(before.average_precision),
            _interval(now.average_precision),
            "average_precision",
        ),
        ("observed / expected", *(f"{x.observed_to_expected:.2f}" for x in (before, now)), "calibration"),
        ("calibration error", *(f"{x.ece:.4f}" for x in (before, now)), ""),
    ]
    for name, a, b, figure in rows:
        each = found.get(figure)
        verdict = (
            "" if each is None else f"{each.p_value_adjusted:>10.2g}  {each.severity or each.state.replace('_', ' ')}"
        )
        print(f"{name:24}{a:>26}{b:>26}{verdict}")
    print(
        f"expected without labels, current window: auc {expected.auc_roc:.3f}, average precision "
        f"{expected.average_precision:.3f}, precision {expected.precision:.3f}, recall {expected.recall:.3f}, "
        f"fraud {expected.fraud_rate:.2%}"
    )


def _interval(figure: tuple[float, float, float]) -> str:
    return "{:.3f} ({:.3f}–{:.3f})".format(*figure)


def _days(look: Look, labels: Window) -> str:
    return f"{(look.current.end - labels.end) / DAY_MS:g}"


def _span(window: Window) -> str:
    import numpy as np

    start, end = (str(np.datetime64(at, "ms"))[:16] for at in window)
    return f"{start} … {end}"


def _plot(look: Look, monitor: DriftMonitor, directory: Path) -> None:
    from console.plots.drift import write_plots

    _, before, _, now = monitor.windows(look.current.end)
    for path in write_plots(look, before, now, directory):
        typer.echo(f"wrote {path}", err=True)
