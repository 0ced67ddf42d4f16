"""The feature kernel: one loop over a partition's events, one account's record at a time, features before the update.

It reads like the definitions in `spec`; nothing else writes account records. Compiled by numba without fastmath and
without parallelism; sums run in ring order, so the same log gives the same bits.

Cost: about 0.5 µs per transaction (104 buckets read), plus a cache miss or two for the account's 4 kB record.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray, types  # type: ignore[attr-defined]
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from core.features import spec
from core.features.recency import HEADS, protect, touch
from core.features.record import ACCOUNT
from core.features.remembered import DUPLICATE, HEADER_SIZE, KEY, recognise
from core.features.spec import DECAY_HALF_LIFE_MS, HIGH_HALF_LIFE_MS, WINDOWS
from core.jit import njit
from core.numeric import exp2
from core.times import DAY_MS, HOUR_MS, MINUTE_MS

# The kinds of events (`kind`).
TRANSACTION, VERDICTS, BLOCK, UNBLOCK, OTHER = 0, 1, 2, 3, 4

EVENT = np.dtype(
    [
        ("slot", np.int32),  # the account's record
        ("row", np.int32),  # a transaction's row among the batch's transactions
        ("time", np.int64),  # the source's, epoch ms; for VERDICTS, that of the latest fraud verdict
        ("received", np.int64),  # the receive time, epoch ms; transactions only
        ("amount", np.float64),
        ("content", np.uint64),  # of everything that the source sent
        ("owner", np.uint64),  # of the account's ID
        ("id", np.uint64),  # hashes by core.hashing.hash_strings; 0 = not given
        ("merchant", np.uint64),
        ("category", np.uint64),
        ("country", np.uint64),
        ("device", np.uint64),
        ("frauds", np.int32),  # for VERDICTS: how many of the account's verdicts count
        ("legitimates", np.int32),
        ("place", np.int16),  # index into `centres` for an in-person transaction, else −1
        ("kind", np.uint8),
    ],
    align=True,
)
"""One event of a partition, as a row of the kernel's input."""

_WIDTHS = np.array([w.width_ms for w in WINDOWS], dtype=np.int64)
_SIZES = np.array([w.buckets for w in WINDOWS], dtype=np.int64)
_STARTS = np.array([sum(w.buckets for w in WINDOWS[:i]) for i in range(len(WINDOWS))], dtype=np.int64)
_WINDOW_COUNT = len(WINDOWS)
_MEAN_7D_WINDOW, _MEAN_30D_WINDOW = 3, 4
_PER_WINDOW = 5  # count, sum, mean, max, merchants

_AMOUNT = spec.index("amount")
_HOUR = spec.index("hour_of_day")
_WEEKDAY = spec.index("day_of_week")
_FIRST_WINDOW = spec.index("count_10m")
_TO_MEAN_7D = spec.index("amount_to_mean_7d")
_TO_MEAN_30D = spec.index("amount_to_mean_30d")
_TO_MAX_30D = spec.index("amount_to_max_30d")
_DECAYED_MEAN = spec.index("decayed_mean")
_DECAYED_STD = spec.index("decayed_std")
_ZSCORE = spec.index("amount_zscore")
_TYPICAL = spec.index("typical_amount")
_TO_TYPICAL = spec.index("amount_to_typical")
_SINCE_HIGH = spec.index("days_since_high_amount")
_HIGH_AMOUNTS = spec.index("high_amounts")
_SINCE_LAST = spec.index("seconds_since_last")
_AGE = spec.index("account_age_days")
_TOTAL = spec.index("transactions_total")
_COUNT_TODAY = spec.index("count_today")
_SUM_TODAY = spec.index("sum_today")
_HOUR_SHARE = spec.index("hour_share")
_MERCHANT_NEW = spec.index("merchant_is_new")
_CATEGORY_NEW = spec.index("category_is_new")
_COUNTRY_NEW = spec.index("country_is_new")
_DEVICE_NEW = spec.index("device_is_new")
_KM = spec.index("km_from_last")
_SPEED = spec.index("speed_kmh")
_FRAUDS = spec.index("fraud_verdicts")
_SINCE_FRAUD = spec.index("days_since_fraud")
_LEGITIMATES = spec.index("legitimate_verdicts")
_BLOCKED = spec.index("account_blocked")
_DELAY = spec.index("source_delay_s")

# Linear counting (Whang, Vander-Zanden, Taylor 1990): −64·ln(zeros/64), one decimal, by the number of set bits; full:
# 64·ln 64.
LINEAR_COUNT = np.array(
    [
        0.0, 1.0, 2.0, 3.1, 4.1, 5.2, 6.3, 7.4, 8.5, 9.7, 10.9, 12.1, 13.3, 14.5, 15.8, 17.1,
        18.4, 19.8, 21.1, 22.5, 24.0, 25.5, 27.0, 28.5, 30.1, 31.7, 33.4, 35.1, 36.8, 38.6, 40.5, 42.4,
        44.4, 46.4, 48.5, 50.7, 52.9, 55.2, 57.7, 60.2, 62.8, 65.5, 68.3, 71.3, 74.4, 77.7, 81.2, 84.8,
        88.7, 92.9, 97.3, 102.0, 107.1, 112.7, 118.8, 125.5, 133.1, 141.6, 151.5, 163.2, 177.4, 195.9, 221.8, 266.2,
        266.2,
    ],
    dtype=np.float64,
)  # fmt: skip


@njit
def _touch(recent: NDArray[np.uint64], key: np.uint64) -> bool:
    """Move `key` to the front of a most-recently-used list, dropping the last if it is new. True if it was there."""
    size = recent.shape[0]
    at = size - 1
    found = False
    for j in range(size):
        if recent[j] == key:
            at = j
            found = True
            break
    for j in range(at, 0, -1):
        recent[j] = recent[j - 1]
    recent[0] = key
    return found


@njit
def _bits(x: np.uint64) -> int:
    """Set bits of a 64-bit word (Warren, Hacker's Delight, 5-1)."""
    x = x - ((x >> np.uint64(1)) & np.uint64(0x5555555555555555))
    x = (x & np.uint64(0x3333333333333333)) + ((x >> np.uint64(2)) & np.uint64(0x3333333333333333))
    x = (x + (x >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return int((x * np.uint64(0x0101010101010101)) >> np.uint64(56))


@njit
def _read_windows(account: Any, time: int, amount: float, out: NDArray[np.float32]) -> None:
    mean_7d = np.nan
    mean_30d = np.nan
    max_30d = np.nan
    for w in range(_WINDOW_COUNT):
        epoch = time // _WIDTHS[w]
        oldest = epoch - _SIZES[w]
        count = 0
        total = 0.0
        largest = -np.inf
        merchants = np.uint64(0)
        for j in range(_STARTS[w], _STARTS[w] + _SIZES[w]):
            e = account.bucket_epoch[j]
            if e > oldest and e <= epoch:
                count += account.bucket_count[j]
                total += account.bucket_sum[j]
                largest = max(largest, account.bucket_max[j])
                merchants |= account.bucket_merchants[j]
        column = _FIRST_WINDOW + w * _PER_WINDOW
        mean = total / count if count else np.nan
        out[column] = count
        out[column + 1] = total
        out[column + 2] = mean
        out[column + 3] = largest if count else np.nan
        out[column + 4] = LINEAR_COUNT[_bits(merchants)]
        if w == _MEAN_7D_WINDOW:
            mean_7d = mean
        elif w == _MEAN_30D_WINDOW:
            mean_30d = mean
            max_30d = largest if count else np.nan
            today = _STARTS[w] + epoch % _SIZES[w]
            current = account.bucket_epoch[today] == epoch
            out[_COUNT_TODAY] = account.bucket_count[today] if current else 0
            out[_SUM_TODAY] = account.bucket_sum[today] if current else 0.0
    out[_TO_MEAN_7D] = amount / mean_7d if mean_7d > 0.0 else np.nan
    out[_TO_MEAN_30D] = amount / mean_30d if mean_30d > 0.0 else np.nan
    out[_TO_MAX_30D] = amount / max_30d if max_30d > 0.0 else np.nan


@njit
def _update_windows(account: Any, time: int, amount: float, merchant: np.uint64) -> None:
    bit = np.uint64(0)
    if merchant != np.uint64(0):
        bit = np.uint64(1) << (merchant >> np.uint64(58))
    for w in range(_WINDOW_COUNT):
        epoch = time // _WIDTHS[w]
        j = _STARTS[w] + epoch % _SIZES[w]
        held = account.bucket_epoch[j]
        if held > epoch:
            continue  # too late for this window: a newer bucket has taken the place
        if held < epoch:
            account.bucket_epoch[j] = epoch
            account.bucket_count[j] = 0
            account.bucket_sum[j] = 0.0
            account.bucket_max[j] = 0.0
            account.bucket_merchants[j] = np.uint64(0)
        account.bucket_count[j] += 1
        account.bucket_sum[j] += amount
        account.bucket_max[j] = max(account.bucket_max[j], amount)
        account.bucket_merchants[j] |= bit


@njit
def _read_history(account: Any, time: int, amount: float, hour: int, out: NDArray[np.float32]) -> None:
    n = account.transactions
    out[_TOTAL] = n
    if n == 0:
        for column in (_DECAYED_MEAN, _DECAYED_STD, _ZSCORE, _SINCE_LAST, _AGE, _HOUR_SHARE):
            out[column] = np.nan
        return
    mean = account.decayed_mean
    deviation = np.sqrt(max(account.decayed_squares, 0.0) / account.decayed_weight)
    out[_DECAYED_MEAN] = mean
    out[_DECAYED_STD] = deviation
    out[_ZSCORE] = (amount - mean) / (deviation + 0.01 * abs(mean) + 0.01)
    out[_SINCE_LAST] = (time - account.last_time) / 1000.0
    out[_AGE] = (time - account.first_time) / DAY_MS
    near = 0
    total = 0
    for h in range(24):
        total += account.hour_count[h]
    for step in (23, 0, 1):
        near += account.hour_count[(hour + step) % 24]
    out[_HOUR_SHARE] = near / total


@njit
def _update_history(account: Any, time: int, amount: float, hour: int) -> None:
    """Decayed moments: West's weighted update (1979); a late event enters with its decayed weight."""
    weight = 1.0
    if account.transactions == 0:
        account.first_time = time
        account.last_time = time
    elif time >= account.last_time:
        decay = exp2(-(time - account.last_time) / DECAY_HALF_LIFE_MS)
        account.decayed_weight *= decay
        account.decayed_squares *= decay
        account.last_time = time
    else:
        weight = exp2(-(account.last_time - time) / DECAY_HALF_LIFE_MS)
        account.first_time = min(account.first_time, time)
    account.decayed_weight += weight
    delta = amount - account.decayed_mean
    if account.decayed_weight > 0.0:
        account.decayed_mean += delta * (weight / account.decayed_weight)
        account.decayed_squares += weight * delta * (amount - account.decayed_mean)
    account.transactions += 1
    total = 0
    for h in range(24):
        total += account.hour_count[h]
    if total >= spec.HOUR_COUNTS_MAX:
        for h in range(24):
            account.hour_count[h] = account.hour_count[h] // 2
    account.hour_count[hour] += 1


@njit
def _read_typical(account: Any, time: int, amount: float, out: NDArray[np.float32]) -> None:
    out[_TYPICAL] = np.nan
    out[_TO_TYPICAL] = np.nan
    out[_SINCE_HIGH] = np.nan
    out[_HIGH_AMOUNTS] = 0.0
    if account.transactions == 0:
        return
    typical = account.typical_amount
    out[_TYPICAL] = typical
    if typical > 0.0:
        out[_TO_TYPICAL] = amount / typical
    if account.high_amounts > 0.0:
        out[_SINCE_HIGH] = (time - account.high_time) / DAY_MS
        out[_HIGH_AMOUNTS] = account.high_amounts * exp2(-max(time - account.high_time, 0) / HIGH_HALF_LIFE_MS)


@njit
def _update_typical(account: Any, time: int, amount: float) -> None:
    """To be called before `transactions` counts this one. A late amount counts at its own age."""
    typical = account.typical_amount
    n = account.transactions
    cut = amount
    if n >= spec.TYPICAL_PLAIN:
        if amount > spec.HIGH_FACTOR * typical:
            age = time - account.high_time
            if account.high_amounts == 0.0:
                account.high_amounts = 1.0
                account.high_time = time
            elif age >= 0:
                account.high_amounts = account.high_amounts * exp2(-age / HIGH_HALF_LIFE_MS) + 1.0
                account.high_time = time
            else:
                account.high_amounts += exp2(age / HIGH_HALF_LIFE_MS)
        cut = min(amount, spec.TYPICAL_CUT * typical + 1.0)
    account.typical_amount = typical + (cut - typical) / min(n + 1, spec.TYPICAL_MEMORY)


@njit
def _novelty(recent: NDArray[np.uint64], key: np.uint64, known: bool) -> float:
    """Touch the list; 1 new, 0 seen, NaN if the value is unknown or the account has no history."""
    if key == np.uint64(0):
        return np.nan
    found = _touch(recent, key)
    if not known:
        return np.nan
    return 0.0 if found else 1.0


@njit
def _travel(account: Any, time: int, place: int, centres: NDArray[np.float64], out: NDArray[np.float32]) -> None:
    """Chord between country centres (unit vectors × Earth's mean radius, IUGG 1980) since the last in-person place."""
    out[_KM] = np.nan
    out[_SPEED] = np.nan
    if place < 0:
        return
    if account.last_place >= 0:
        here = centres[place]
        there = centres[account.last_place]
        dx = here[0] - there[0]
        dy = here[1] - there[1]
        dz = here[2] - there[2]
        km = 6371.0 * np.sqrt(dx * dx + dy * dy + dz * dz)
        elapsed = max(abs(time - account.last_place_time), MINUTE_MS)
        out[_KM] = km
        out[_SPEED] = km / (elapsed / HOUR_MS)
    if account.last_place < 0 or time >= account.last_place_time:
        account.last_place = place
        account.last_place_time = time


@njit
def _apply_feedback(account: Any, event: Any) -> None:
    if event.kind == VERDICTS:
        account.frauds = event.frauds
        account.legitimates = event.legitimates
        account.last_fraud_time = event.time
    elif event.kind == BLOCK:
        account.blocked = 1
    elif event.kind == UNBLOCK:
        account.blocked = 0


def _to_pointer(typing_context: Any, address: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], cgutils.voidptr_t)

    return types.voidptr(address), code


pointer: Any = intrinsic(_to_pointer)
"""A memory address as a pointer."""


@njit
def process(
    records: NDArray[np.void],
    header: NDArray[np.int64],
    ring: NDArray[np.void],
    table: NDArray[np.int32],
    links: NDArray[np.int32],
    kinds: NDArray[np.uint8],
    events: NDArray[np.void],
    centres: NDArray[np.float64],
    out: NDArray[np.float32],
    seen: NDArray[np.uint8],
) -> None:
    """Features of every transaction, then its update; feedback updates only.

    records: of state.ACCOUNT; header, ring, table: of Remembered; links, kinds: of Recency. events: of EVENT, of one
    partition, in order. centres float64 (m, 3). A transaction's features go to its row of `out` float32 (n, WIDTH), and
    what remembered.recognise says of it to `seen` uint8 (n,); a duplicate updates nothing and leaves `out` untouched.
    The reference columns are filled elsewhere (core.features.reference).
    """
    for i in range(events.shape[0]):
        event = events[i]
        account = records[event.slot]
        time = event.received
        if event.kind != TRANSACTION:
            _apply_feedback(account, event)
            protect(account, kinds, event.slot)
            touch(links, kinds, event.slot)
            continue
        seen[event.row] = recognise(account, event, header, ring, table)
        if seen[event.row] == DUPLICATE:
            continue
        touch(links, kinds, event.slot)
        row = out[event.row]
        amount = event.amount
        hour = (event.time // HOUR_MS) % 24
        known = account.transactions > 0
        row[_AMOUNT] = amount
        row[_HOUR] = hour
        row[_WEEKDAY] = (event.time // DAY_MS + 3) % 7  # 1970-01-01 was a Thursday
        _read_windows(account, time, amount, row)
        _read_history(account, time, amount, hour, row)
        _read_typical(account, time, amount, row)
        row[_FRAUDS] = account.frauds
        row[_LEGITIMATES] = account.legitimates
        row[_SINCE_FRAUD] = (time - account.last_fraud_time) / DAY_MS if account.frauds else np.nan
        row[_BLOCKED] = account.blocked
        row[_DELAY] = (time - event.time) / 1000.0
        row[_MERCHANT_NEW] = _novelty(account.recent_merchants, event.merchant, known)
        row[_CATEGORY_NEW] = _novelty(account.recent_categories, event.category, known)
        row[_COUNTRY_NEW] = _novelty(account.recent_countries, event.country, known)
        row[_DEVICE_NEW] = _novelty(account.recent_devices, event.device, known)
        _travel(account, event.time, event.place, centres, row)
        for column in range(row.shape[0]):
            if row[column] != row[column]:
                row[column] = np.nan  # one NaN pattern: the sign bit of inf − inf depends on the processor
        _update_windows(account, time, amount, event.merchant)
        _update_typical(account, time, amount)
        _update_history(account, time, amount, hour)


@njit
def process_all(
    states: NDArray[np.int64],
    ends: NDArray[np.int64],
    events: NDArray[np.void],
    centres: NDArray[np.float64],
    out: NDArray[np.float32],
    seen: NDArray[np.uint8],
) -> None:
    """`process` for several partitions in one call: for small batches a call each would cost more than the work.

    states: int64 (partitions, 8), `AccountState.addresses` of each; the caller must keep their arrays alive. ends:
    where each partition's events end.
    """
    begin = 0
    for p in range(ends.shape[0]):
        records = carray(pointer(states[p, 0]), (states[p, 1],), ACCOUNT)
        header = carray(pointer(states[p, 2]), (HEADER_SIZE,), np.int64)
        ring = carray(pointer(states[p, 3]), (states[p, 5],), KEY)
        table = carray(pointer(states[p, 4]), (2 * states[p, 5],), np.int32)
        links = carray(pointer(states[p, 6]), (states[p, 1] + HEADS, 2), np.int32)
        kinds = carray(pointer(states[p, 7]), (states[p, 1],), np.uint8)
        process(records, header, ring, table, links, kinds, events[begin : ends[p]], centres, out, seen)
        begin = ends[p]
