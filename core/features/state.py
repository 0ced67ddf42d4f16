"""Per-account state of one partition, in one numpy record array: about 4.5 kB per account, whatever its history.

Owns the record's layout, the account → slot index, the accounts' verdicts, the payments remembered beyond the records,
and the snapshot's bytes.
`core.features.kernel` is the only writer of the records. A slot's number depends on the order of first appearance in
the log, so it is the same in every replay.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import NoReturn

import msgspec
import numpy as np
from numpy.typing import NDArray

from core.errors import Corrupt
from core.features import spec
from core.features.remembered import Remembered
from core.features.spec import BUCKETS_TOTAL
from core.features.verdicts import AccountVerdicts
from core.identity import LogIdentity

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

CAPACITY_MIN = 65_536
"""Records that a partition reserves. Only those in use take memory; growing copies them, which takes milliseconds."""

_MAGIC = b"sentinel-accounts-3\n"


class _Header(msgspec.Struct, frozen=True):
    log_id: str
    spec: int
    layout: str
    count: int
    accounts: list[str]
    verdicts: int
    received_at: int
    remembered: int
    digest: str


_LAYOUT = hashlib.sha256(repr(ACCOUNT.descr).encode()).hexdigest()[:16]


class AccountState:
    """The accounts of one partition. Not thread-safe; one owner."""

    def __init__(self, identity: LogIdentity) -> None:
        self.identity = identity
        self.index: dict[str, int] = {}
        self.address = 0
        """The records' memory address, for the kernel."""
        self.records = np.zeros(CAPACITY_MIN, dtype=ACCOUNT)
        self.verdicts = AccountVerdicts()
        self.received_at = 0
        """The partition's clock: the newest receive time of a live transaction (`core.receipt`), epoch ms."""
        self.remembered = Remembered()

    @property
    def addresses(self) -> tuple[int, ...]:
        """For the kernel: the records' memory address and number, and `Remembered.addresses`."""
        return self.address, len(self._records), *self.remembered.addresses

    def __len__(self) -> int:
        return len(self.index)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a copy would keep the original's address: copy by to_bytes and from_bytes")

    @property
    def records(self) -> NDArray[np.void]:
        """Records of ACCOUNT by slot; those beyond the accounts are not initialised."""
        return self._records

    @records.setter
    def records(self, records: NDArray[np.void]) -> None:
        self._records = records
        self.address = records.ctypes.data

    def slots(self, account_ids: list[str]) -> list[int]:
        """The slot of every account; new accounts get the next ones. Cost: a dict look-up each, 1 µs for a new one."""
        index = self.index
        slots = list(map(index.get, account_ids))
        if None not in slots:
            return slots  # type: ignore[return-value]
        known = len(index)
        slots = [index.setdefault(account_id, len(index)) for account_id in account_ids]
        if len(index) > len(self.records):
            grown = np.zeros(max(len(index), 2 * len(self.records)), dtype=ACCOUNT)
            grown[:known] = self.records[:known]
            self.records = grown
        _begin(self.records[known : len(index)])
        return slots  # type: ignore[return-value]

    def digest(self) -> str:
        """SHA-256 over everything in it, accounts in slot order: equal states have equal digests."""
        return _checksum(self.index, b"".join(self._parts()))

    def _parts(self) -> tuple[bytes, bytes, bytes]:
        return _used_bytes(self.records, len(self.index)), self.verdicts.to_bytes(), self.remembered.to_bytes()

    def to_bytes(self) -> bytes:
        """A self-describing snapshot with a checksum."""
        records, verdicts, remembered = self._parts()
        body = records + verdicts + remembered
        accounts = list(self.index)
        header = msgspec.json.encode(
            _Header(
                log_id=self.identity.log_id,
                spec=spec.SPEC_VERSION,
                layout=_LAYOUT,
                count=len(self.index),
                accounts=accounts,
                verdicts=len(verdicts),
                remembered=len(remembered),
                received_at=self.received_at,
                digest=_checksum(accounts, body + b"%d" % self.received_at),
            )
        )
        return _MAGIC + b"%d\n" % len(header) + header + body

    @classmethod
    def from_bytes(cls, content: bytes, identity: LogIdentity) -> AccountState:
        """Read a snapshot of this log. Raises Corrupt if it is not intact, or is of another log, spec or layout."""
        try:
            if not content.startswith(_MAGIC):
                raise Corrupt("not a snapshot of account state")
            size_end = content.index(b"\n", len(_MAGIC))
            start = size_end + 1 + int(content[len(_MAGIC) : size_end])
            header = msgspec.json.decode(content[size_end + 1 : start], type=_Header)
        except (ValueError, msgspec.MsgspecError) as error:
            raise Corrupt(f"the snapshot's header does not decode: {error}") from error
        body = content[start:]
        if header.log_id != identity.log_id:
            raise Corrupt("the snapshot belongs to another log")
        if header.spec != spec.SPEC_VERSION or header.layout != _LAYOUT:
            raise Corrupt("the snapshot was written under another feature spec or layout")
        size = header.count * ACCOUNT.itemsize
        checksum = _checksum(header.accounts, body + b"%d" % header.received_at)
        if len(body) != size + header.verdicts + header.remembered or checksum != header.digest:
            raise Corrupt("the snapshot's accounts and records do not match their checksum")
        state = cls(identity)
        state.received_at = header.received_at
        state.index = {account_id: slot for slot, account_id in enumerate(header.accounts)}
        if len(state.index) != header.count:
            raise Corrupt("the snapshot's accounts do not match its records")
        state.records = np.zeros(max(CAPACITY_MIN, header.count), dtype=ACCOUNT)
        state.records[: header.count] = np.frombuffer(body, dtype=ACCOUNT, count=header.count)
        try:
            state.verdicts = AccountVerdicts.from_bytes(body[size : size + header.verdicts])
            state.remembered = Remembered.from_bytes(body[size + header.verdicts :])
        except (msgspec.MsgspecError, ValueError) as error:
            raise Corrupt(f"the snapshot's verdicts or remembered payments do not decode: {error}") from error
        return state


def _checksum(accounts: Iterable[str], body: bytes) -> str:
    h = hashlib.sha256("\x1f".join(accounts).encode())
    h.update(body)
    return h.hexdigest()


def _used_bytes(records: NDArray[np.void], count: int) -> bytes:
    return records[:count].tobytes()


def _begin(records: NDArray[np.void]) -> None:
    """Make accounts without history. Only records in use are touched: the rest is memory not yet allocated."""
    records["bucket_epoch"] = NEVER
    records["last_place"] = -1
