"""Windows of decisions for tests of drift: independent rows, clustered rows, looks as a monitor sees them."""

from __future__ import annotations

from typing import Any

import numpy as np

from core.features import spec
from core.times import DAY_MS
from learners.drift.compare import Baseline, FeatureDrift, Window, compare, main_model
from learners.drift.figures import samples
from learners.drift.look import Look
from learners.drift.policy import SEVERITIES, DriftConfig
from learners.drift.rows import Rows

MONDAY = 4 * DAY_MS  # 1970-01-05
SETTLED_MS = 90 * DAY_MS
CONFIG = DriftConfig()


def rows(size: int, seed: int, *, start: int = MONDAY, days: int = 14, accounts: int = 400, shift: float = 0.0) -> Rows:
    """Independent decisions: log-normal columns (log-mean `shift`), uniform hours, flags with 10 %, one model, a shop
    for each payment.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    columns = np.exp(rng.normal(shift, 1.0, (spec.WIDTH, size))).astype(np.float32)
    columns[spec.index("hour_of_day")] = rng.integers(0, 24, size)
    for place, each in enumerate(spec.FEATURES):
        if each.unit == "0/1":
            columns[place] = rng.random(size) < 0.1
    margins, times = rng.normal(shift, 1.0, size), np.sort(start + rng.integers(0, days * DAY_MS, size))
    of = rng.integers(0, accounts, size).astype(np.uint64)
    transactions = rng.integers(0, 2**63, size).astype(np.uint64)
    return Rows(
        columns=columns,
        margins=margins,
        times=times,
        accounts=of,
        transactions=transactions,
        shops=transactions,
        categories=np.zeros(size, dtype=np.uint64),
        models=np.zeros(size, dtype=np.int64),
        digests=("m1",),
    )


def feature(name: str = "amount", level: int = 0, **changes: Any) -> FeatureDrift:
    """A tested feature that drifted with severity `level` (1 low … 4 critical), or clearly did not (0)."""
    fields: dict[str, Any] = {
        "feature": name,
        "kind": "numeric",
        "state": "tested",
        "drifted": level > 0,
        "severity": SEVERITIES[level - 1] if level else None,
        "statistic": "ks",
        "magnitude": 0.1 * level,
        "test": "ks",
        "p_value": 1e-9 if level else 0.7,
        "p_value_adjusted": 1e-8 if level else 0.9,
        "effects": {"ks": 0.1 * level},
        "design_effect": 1.5,
        "level": level,
        "over": level == 0,
        "window_ms": 7 * DAY_MS,
        "rows": (1000, 2000),
    }
    return FeatureDrift(**{**fields, **changes})


def look(end: int, *features: FeatureDrift) -> Look:
    """A look at the week that ends at `end` (epoch ms)."""
    return Look(
        reference=Window(0, 14 * DAY_MS),
        current=Window(end - 7 * DAY_MS, end),
        reference_rows=2000,
        rows=1000,
        features=features,
    )


def compared(
    before: Rows, now: Rows, config: DriftConfig = CONFIG, settled_ms: int = SETTLED_MS, end: int = 0
) -> dict[str, FeatureDrift]:
    """Findings by name: windows that end at `end` (default: the midnight after the last row) against these rows."""
    model = main_model(now)
    held = samples(before, model, 0.0, None, 0)
    baseline = Baseline(held, dict.fromkeys(held, 0), config, settled_ms, 0.0)
    last = int(now.times[-1]) if len(now) else MONDAY
    found = compare(baseline, samples(now, model, 0.0, None, 0), end or (last // DAY_MS + 1) * DAY_MS)
    return {each.feature: each for each in found}
