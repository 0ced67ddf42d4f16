"""What differs between a logged score or alert and the one that was made again, field by field, in words. Pure."""

from __future__ import annotations

import msgspec
import numpy as np

from core.codec import (
    decode_alert,
    decode_score,
)
from core.errors import Corrupt
from core.events import AlertRaised
from core.features import packing, spec


def explain_difference(logged: bytes, recomputed: bytes) -> list[str]:
    """Two score payloads field by field, features by name; [] if the bytes are equal."""
    if logged == recomputed:
        return []
    a, b = decode_score(logged), decode_score(recomputed)
    lines = []
    for name in a.__struct_fields__:
        was, now = getattr(a, name), getattr(b, name)
        if name == "features":
            lines += _feature_difference(was, now)
        elif was != now:
            lines.append(f"{name}: logged {was!r}, recomputed {now!r}")
    return lines or [f"same fields, different bytes: logged {logged[:60]!r}…, recomputed {recomputed[:60]!r}…"]


def _feature_difference(was: bytes, now: bytes) -> list[str]:
    try:
        a, b = (packing.vector(content).view(np.uint32) for content in (was, now))
    except Corrupt as error:
        return [f"features: {error}"]
    if len(a) != len(b):
        return [f"features: logged {len(a)} columns, recomputed {len(b)}"]
    names = [*spec.NAMES, *(f"column {i}" for i in range(spec.WIDTH, len(a)))]  # of own features
    return [
        f"feature {names[i]}: logged {a[i : i + 1].view('<f4')[0]!s} (0x{a[i]:08x}),"
        f" recomputed {b[i : i + 1].view('<f4')[0]!s} (0x{b[i]:08x})"
        for i in np.flatnonzero(a != b)
    ]


def explain_alert_difference(was: bytes | None, now: bytes | None) -> list[str]:
    """Two alert payloads field by field, None for no alert; [] if they are equal."""
    if was is None and now is None:
        return []
    if was is None or now is None:
        return ["alert: " + ("logged, not raised again" if now is None else "raised, but not in the log")]
    a, b = decode_alert(was), decode_alert(now)
    fields: tuple[str, ...] = AlertRaised.__struct_fields__
    lines = [
        f"alert {name}: logged {msgspec.json.encode(getattr(a, name)).decode()},"
        f" recomputed {msgspec.json.encode(getattr(b, name)).decode()}"
        for name in fields
        if getattr(a, name) != getattr(b, name)
    ]
    if was != now and not lines:
        lines.append(f"alert: same fields, different bytes: logged {was[:60]!r}…, recomputed {now[:60]!r}…")
    return lines
