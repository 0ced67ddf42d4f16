"""An account's record: what the kernel keeps of it, about 4.5 kB whatever its history. Only the layout; no code.

`core.features.kernel` is the only writer of records, `core.features.state` their owner.
"""

from __future__ import annotations

import numpy as np

from core.features import spec
from core.features.spec import BUCKETS_TOTAL

NEVER = -(2**31)

ACCOUNT = np.dtype(
    [
        # One ring of buckets per window, one after the other in the order of spec.WINDOWS.
        ("bucket_epoch", np.int32, (BUCKETS_TOTAL,)),  # receive time // width of the bucket; NEVER = empty
        ("bucket_count", np.int32, (BUCKETS_TOTAL,)),
        ("bucket_sum", np.float64, (BUCKETS_TOTAL,)),
        ("bucket_max", np.float64, (BUCKETS_TOTAL,)),
        ("bucket_merchants", np.uint64, (BUCKETS_TOTAL,)),  # 64-bit linear-counting sketch
        ("hour_count", np.uint16, (24,)),
        ("recent_merchants", np.uint64, (spec.RECENT_MERCHANTS,)),  # most recent first; 0 = empty
        ("recent_categories", np.uint64, (spec.RECENT_CATEGORIES,)),
        ("recent_countries", np.uint64, (spec.RECENT_COUNTRIES,)),
        ("recent_devices", np.uint64, (spec.RECENT_DEVICES,)),
        # The last payments, a ring (core.features.remembered): hashes of ID and content, receive time in epoch seconds.
        ("recent_ids", np.uint64, (spec.DUPLICATE_MEMORY,)),
        ("recent_contents", np.uint64, (spec.DUPLICATE_MEMORY,)),
        ("recent_times", np.uint32, (spec.DUPLICATE_MEMORY,)),
        ("ids_seen", np.int64),
        ("kept_until", np.int64),  # until when the partition remembers payments that left the ring, epoch ms
        ("kept_today", np.int32),  # how many left the ring on kept_day (epoch day of receive time)
        ("kept_day", np.int32),
        ("owner", np.uint64),  # hash of the account's ID
        ("transactions", np.int64),
        ("first_time", np.int64),  # epoch ms; receive times, as last_time and high_time
        ("last_time", np.int64),
        ("decayed_weight", np.float64),
        ("decayed_mean", np.float64),
        ("decayed_squares", np.float64),
        ("typical_amount", np.float64),
        ("high_amounts", np.float64),  # decayed to high_time
        ("high_time", np.int64),  # of the latest high amount; meaningless while high_amounts is 0
        ("last_place", np.int64),  # index into core.geography; -1 = none
        ("last_place_time", np.int64),  # the source's time
        ("frauds", np.int64),
        ("legitimates", np.int64),
        ("last_fraud_time", np.int64),
        ("blocked", np.int64),
    ],
    align=True,
)
