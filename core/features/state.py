"""Per-account state of one partition, in one numpy record array: about 4.5 kB per account, whatever its history.

Owns the record's layout, the account → slot index, the accounts' verdicts, the payments remembered beyond the records,
and the snapshot's bytes.
`core.features.kernel` is the only writer of the records. A slot's number depends on the order of events in the log
alone, so it is the same in every replay.

A partition holds at most `LogIdentity.accounts_max` accounts. When a new one finds it full, the least recently active
are evicted (`core.features.recency`): nothing is kept of them, and their next event begins a new account. Protected
accounts, which are blocked or have a fraud verdict that counts, go only where they are more than half of all, and
blocked ones last.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import msgspec
import numpy as np
from numpy.typing import NDArray

from core.errors import UNDECODABLE, Corrupt
from core.features import spec
from core.features.recency import BLOCKED, DEFRAUDED, ORDINARY, Recency
from core.features.record import ACCOUNT, NEVER
from core.features.remembered import Remembered
from core.features.verdicts import AccountVerdicts
from core.identity import LogIdentity
from core.program.state import ProgramState, ProgramStateCopy

if TYPE_CHECKING:
    from core.program.rings import RingStep

CAPACITY_MIN = 65_536
"""Records that a partition reserves. Only those in use take memory; growing copies them, which takes milliseconds."""

EVICTED_PART = 64
"""When a partition is full, one in so many accounts is evicted."""

_MAGIC = b"sentinel-accounts-5\n"
_PURPOSE = "snapshot"


class _Header(msgspec.Struct, frozen=True):
    log_id: str
    spec: int
    layout: str
    count: int
    accounts: list[str]
    verdicts: int
    received_at: int
    remembered: int
    free: int
    rings: dict[str, int]
    mac: str = ""


_LAYOUT = hashlib.sha256(repr(ACCOUNT.descr).encode()).hexdigest()[:16]


class AccountState:
    """The accounts of one partition. Not thread-safe; one owner."""

    def __init__(self, identity: LogIdentity) -> None:
        self.identity = identity
        self.index: dict[str, int] = {}
        self.address = 0
        """The records' memory address, for the kernel."""
        self.records = np.zeros(min(CAPACITY_MIN, identity.accounts_max), dtype=ACCOUNT)
        self.verdicts = AccountVerdicts()
        self.received_at = 0
        """The partition's clock: the newest receive time, but never after its recording (`core.receipt`), epoch ms."""
        self.remembered = Remembered()
        self.recency = Recency(len(self.records))
        self.evicted = 0
        self.evicted_protected = 0
        """Accounts evicted so far, and how many of them were protected."""
        self.rings: dict[str, ProgramState] = {}
        self.ring_steps: dict[str, RingStep] = {}
        """What programs' aggregates need, and how it is updated, by the digest of the step."""
        self._names: list[str] = []
        self._free: list[int] = []

    @property
    def addresses(self) -> tuple[int, ...]:
        """For the kernel: the records' memory address and number, `Remembered.addresses`, and `Recency.addresses`."""
        return self.address, len(self._records), *self.remembered.addresses, *self.recency.addresses

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
        self._epochs, self._places = records["bucket_epoch"], records["last_place"]

    def hold(self, steps: Iterable[RingStep]) -> AccountState:
        """Hold the aggregates of these steps too, from the first event on: the state must be new. Returns itself."""
        if self._names:
            raise Corrupt("aggregates can't be added to accounts that have events already: fold the log again")
        for step in steps:
            if step.digest not in self.rings:
                self.rings[step.digest], self.ring_steps[step.digest] = ProgramState(step.layout), step
        return self

    def keep(self, digests: Collection[str]) -> None:
        """Drop the aggregates of all other steps: their memory, and what updating them costs."""
        for digest in [each for each in self.rings if each not in digests]:
            del self.rings[digest], self.ring_steps[digest]

    @property
    def room(self) -> int:
        """How many new accounts fit without an eviction."""
        return self.identity.accounts_max - len(self.index)

    def fits(self, account_ids: Sequence[str]) -> int:
        """How many of these accounts' events, in order, can be folded before one needs an eviction."""
        room = self.room
        fresh: set[str] = set()
        for place, account_id in enumerate(account_ids):
            if account_id not in self.index and account_id not in fresh:
                if len(fresh) == room:
                    return place
                fresh.add(account_id)
        return len(account_ids)

    def slots(self, account_ids: list[str]) -> list[int]:
        """The slot of every account; new accounts, which must fit, get free ones. Cost: a dict look-up each, 1 µs for a
        new one.
        """
        index = self.index
        slots = list(map(index.get, account_ids))
        if None not in slots:
            return slots  # type: ignore[return-value]
        names, free, known = self._names, self._free, len(self._names)
        reused: list[int] = []
        for place, account_id in enumerate(account_ids):
            if slots[place] is None:
                slot = index.get(account_id)
                if slot is None and free:
                    slot = index[account_id] = free.pop()
                    names[slot] = account_id
                    reused.append(slot)
                elif slot is None:
                    slot = index[account_id] = len(names)
                    names.append(account_id)
                slots[place] = slot
        if len(names) > len(self.records):
            self._grow()
        self._begin(known, reused)
        return slots  # type: ignore[return-value]

    def _begin(self, known: int, reused: list[int]) -> None:
        """Make the accounts from slot `known` on, and those in slots that others had, accounts without history. Only
        records in use are touched: the rest is memory not yet allocated, and zero.
        """
        self._epochs[known : len(self._names)] = NEVER
        self._places[known : len(self._names)] = -1
        if reused:
            self._records[reused] = np.zeros((), dtype=ACCOUNT)
            self._epochs[reused] = NEVER
            self._places[reused] = -1
        for held in self.rings.values():
            held.begin([*range(known, len(self._names)), *reused])

    def _grow(self) -> None:
        size = max(len(self._names), min(2 * len(self.records), self.identity.accounts_max))
        grown = np.zeros(size, dtype=ACCOUNT)
        grown[: len(self.records)] = self.records
        self.records = grown
        self.recency.grow(size)

    def evict(self) -> None:
        """Forget the accounts that were active least recently: one in 64, so that this costs little per new account.

        Protected accounts go only where they are more than half of all accounts, or where no others are left; of these
        the blocked ones go last.
        """
        wanted = max(self.identity.accounts_max // EVICTED_PART, 1)
        protected = int(np.count_nonzero(self.recency.kinds != ORDINARY))
        excess = min(max(protected - self.identity.accounts_max // 2, 0), wanted)
        ordinary = self.recency.oldest(ORDINARY, wanted - excess)
        defrauded = self.recency.oldest(DEFRAUDED, wanted - len(ordinary))
        blocked = self.recency.oldest(BLOCKED, wanted - len(ordinary) - len(defrauded))
        gone = np.concatenate([ordinary, defrauded, blocked])
        self.recency.remove(gone)
        for slot in gone.tolist():
            name = self._names[slot]
            del self.index[name]
            self.verdicts.forget(name)
            self._names[slot] = ""
        self._free += gone.tolist()[::-1]
        self.evicted += len(gone)
        self.evicted_protected += len(defrauded) + len(blocked)

    def digest(self) -> str:
        """SHA-256 over everything in it, accounts in slot order: equal states have equal digests."""
        h = hashlib.sha256("\x1f".join(self._names).encode())
        for part in (*self._parts(), *self._ring_parts().values()):
            h.update(part)
        return h.hexdigest()

    def _ring_parts(self) -> dict[str, bytes]:
        return {digest: self.rings[digest].to_bytes() for digest in sorted(self.rings)}

    def _parts(self) -> tuple[bytes, bytes, bytes, bytes]:
        lists = [*self._free, self.evicted, self.evicted_protected]
        return (
            self.records[: len(self._names)].tobytes(),
            self.verdicts.to_bytes(),
            self.remembered.to_bytes(),
            self.recency.to_bytes() + np.array(lists, dtype="<i8").tobytes(),
        )

    def copy(self) -> StateCopy:
        """What it holds now. Cost: a copy of the memory in use, 4.5 kB an account, and of its aggregates."""
        rings = {digest: self.rings[digest].copy() for digest in sorted(self.rings)}
        return StateCopy(self.identity, list(self._names), *self._parts(), len(self._free), self.received_at, rings)

    def to_bytes(self) -> bytes:
        """A self-describing snapshot with a message authentication code."""
        return b"".join(self.copy().parts())

    @classmethod
    def from_bytes(
        cls, content: bytes, identity: LogIdentity, steps: Iterable[RingStep] = (), beside: bytes = b""
    ) -> AccountState:
        """Read a snapshot of this log. steps: the aggregates to hold, if it has them; others in it are dropped. beside:
        as it was written with (`StateCopy.parts`).

        Raises Corrupt if it was not written under this log's key as it stands, or is of another spec or layout.
        """
        try:
            if not content.startswith(_MAGIC):
                raise Corrupt("not a snapshot of account state")
            size_end = content.index(b"\n", len(_MAGIC))
            start = size_end + 1 + int(content[len(_MAGIC) : size_end])
            header = msgspec.json.decode(content[size_end + 1 : start], type=_Header)
        except (ValueError, *UNDECODABLE) as error:
            raise Corrupt(f"the snapshot's header does not decode: {error}") from error
        body = content[start:]
        if header.log_id != identity.log_id:
            raise Corrupt("the snapshot belongs to another log")
        if header.spec != spec.SPEC_VERSION or header.layout != _LAYOUT:
            raise Corrupt("the snapshot was written under another feature spec or layout")
        size = header.count * ACCOUNT.itemsize
        if not hmac.compare_digest(_mac(identity, beside, header, [body]).encode(), header.mac.encode()):
            raise Corrupt("the snapshot's code does not match: it was changed, or not written by this log's workers")
        state = cls(identity)
        state.received_at = header.received_at
        state.index = {account_id: slot for slot, account_id in enumerate(header.accounts) if account_id}
        state._names = header.accounts
        if len(header.accounts) != header.count or len(state.index) != header.count - header.free:
            raise Corrupt("the snapshot's accounts do not match its records")
        state.records = np.zeros(max(len(state.records), header.count), dtype=ACCOUNT)
        state.records[: header.count] = np.frombuffer(body, dtype=ACCOUNT, count=header.count)
        ends = np.cumsum([size, header.verdicts, header.remembered]).tolist()
        whole = len(body) - sum(header.rings.values())
        counts = whole - 8 * (header.free + 2)
        try:
            state.verdicts = AccountVerdicts.from_bytes(body[ends[0] : ends[1]])
            state.remembered = Remembered.from_bytes(body[ends[1] : ends[2]])
            state.recency = Recency.from_bytes(body[ends[2] : counts], len(state.records))
        except (ValueError, *UNDECODABLE) as error:
            raise Corrupt(f"the snapshot does not decode: {error}") from error
        *state._free, state.evicted, state.evicted_protected = np.frombuffer(body[counts:whole], dtype="<i8").tolist()
        held: dict[str, bytes] = {}
        for digest, length in header.rings.items():
            held[digest], whole = body[whole : whole + length], whole + length
        for step in steps:
            if step.digest in held:
                state.rings[step.digest] = ProgramState.from_bytes(held[step.digest], step.layout)
                state.ring_steps[step.digest] = step
        return state


class StateCopy(NamedTuple):
    """An AccountState as it was when it was copied: what a snapshot needs, so that its bytes can be made in another
    thread. records, verdicts, remembered, recent: as bytes. free: the number of free slots.
    """

    identity: LogIdentity
    names: list[str]
    records: bytes
    verdicts: bytes
    remembered: bytes
    recent: bytes
    free: int
    received_at: int
    rings: dict[str, ProgramStateCopy]

    def parts(self, beside: bytes = b"") -> list[bytes]:
        """A self-describing snapshot: its bytes, in parts, with a code under the log's key over all of them and over
        `beside`, which is stored elsewhere. Nearly all the time is spent on hashes, which let other threads run.
        """
        rings = {digest: held.parts() for digest, held in self.rings.items()}
        body = [self.records, self.verdicts, self.remembered, self.recent]
        body += [part for parts in rings.values() for part in parts]
        header = _Header(
            log_id=self.identity.log_id,
            spec=spec.SPEC_VERSION,
            layout=_LAYOUT,
            count=len(self.names),
            accounts=self.names,
            verdicts=len(self.verdicts),
            remembered=len(self.remembered),
            free=self.free,
            received_at=self.received_at,
            rings={digest: sum(map(len, parts)) for digest, parts in rings.items()},
        )
        signed = msgspec.structs.replace(header, mac=_mac(self.identity, beside, header, body))
        head = msgspec.json.encode(signed)
        return [b"%b%d\n%b" % (_MAGIC, len(head), head), *body]


def _mac(identity: LogIdentity, beside: bytes, header: _Header, body: Iterable[bytes]) -> str:
    """HMAC-SHA256 over what stands beside the snapshot, its header without the code, and its body."""
    head = msgspec.json.encode(msgspec.structs.replace(header, mac=""))
    h = hmac.new(identity.mac_key(_PURPOSE), b"%d\n%d\n" % (len(beside), len(head)), "sha256")
    for part in (beside, head, *body):
        h.update(part)
    return h.hexdigest()
