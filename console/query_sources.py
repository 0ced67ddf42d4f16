"""The tables of `sentinel query sources` as rows of text: sources and analysts, pairs, delays."""

from __future__ import annotations

from collections.abc import Sequence

from projections.labelling.maturity import SHARES, KnownShare, Maturity
from projections.labelling.sources import PairRow, SourceRow, SourcesReport

AGES_SHOWN = (1, 7, 14, 30, 60, 90)


def source_rows(rows: Sequence[SourceRow]) -> list[dict[str, str]]:
    """One row per source or analyst. A reliability in brackets still depends on the prior and is not used yet."""
    return [
        {
            "source": row.name,
            "verdicts": f"{row.verdicts:,}",
            "quarantined": ", ".join(f"{n:,} {why}" for why, n in row.held_back.items()),
            "transactions": f"{row.transactions:,}",
            "says fraud": _share(row.fraud_share),
            "overlap": f"{row.overlap:,}",
            "agreement": _share(row.agreement),
            "kappa": "" if row.kappa is None else f"{row.kappa:.2f}",
            "sensitivity": _measured(row.sensitivity, row.is_measured),
            "specificity": _measured(row.specificity, row.is_measured),
            "overturned": _share(row.overturned),
            "median delay": "" if row.delay_median_days is None else f"{row.delay_median_days:.1f} d",
        }
        for row in rows
    ]


def pair_rows(found: SourcesReport) -> list[dict[str, str]]:
    """One row per pair that judged the same transactions."""
    return [_pair(row) for row in found.pairs]


def maturity_rows(found: SourcesReport) -> list[dict[str, str]]:
    """Share of frauds known by age, with its 95 % interval, and the days until a given share is known."""
    return [
        {
            "frauds of": name,
            "frauds": f"{of.frauds:,}",
            **{f"{age} d": _known(of, age) for age in AGES_SHOWN},
            **{f"{share:.0%} by": f"{of.days_to[f'{share:g}']} d" for share in SHARES[2:]},
            "observed": f"{of.horizon_days} d",
        }
        for name, of in found.maturity.items()
    ]


def _pair(row: PairRow) -> dict[str, str]:
    return {
        "first": row.first,
        "second": row.second,
        "both fraud": f"{row.both_fraud:,}",
        "fraud / legitimate": f"{row.fraud_legitimate:,}",
        "legitimate / fraud": f"{row.legitimate_fraud:,}",
        "both legitimate": f"{row.both_legitimate:,}",
        "agreement": _share(row.agreement),
        "kappa": "" if row.kappa is None else f"{row.kappa:.2f}",
    }


def _known(of: Maturity, age: int) -> str:
    if age > of.horizon_days:
        return ""
    at: KnownShare = max((known for known in of.curve if known.days <= age), key=lambda known: known.days)
    return f"{at.share:.0%} ({at.low:.0%}–{at.high:.0%})"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _measured(value: float | None, is_measured: bool) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if is_measured else f"({value:.3f})"
