"""Hostile content, from a seed: what a file, a setting, a parameter or a stored object can hold that none should.

    bytes       a valid sample with bytes flipped, set, removed, inserted, doubled, cut off or moved
    words       a number or a word of it replaced by a value at or beyond some limit
    structure   a JSON sample with a part removed, doubled, exchanged, nested deeply or of another type
    outright    nothing, zeros, no UTF-8, deep nesting, a line without end

The same seed gives the same content. `attempt` feeds it to a surface, within bounds of time and memory.
"""

from __future__ import annotations

import json
import random
import re
import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from core.errors import SentinelError

SECONDS_MAX = 2.0
MEGABYTES_MAX = 256
DEEP = 100_000

NUMBERS = (
    *("-1", "0", "-0", "1e999", "-1e308", "5e-324", "NaN", "nan", "inf", "Infinity", "0x10", "1_000", "00", "+1"),
    *("2147483648", "4294967296", "9223372036854775807", "9223372036854775808", "-9223372036854775809"),
    *("18446744073709551616", "253402300800000", "99999999999999", "1" + "0" * 400, "9" * 5_000),
)
TEXTS = (
    *("", " ", "a" * 70_000, "\0", "\x1b]0;x\x07\x1b[31m", "\r", "\u202egnp.exe", "\ud800", "\uffff", "\u2028"),
    *("[/red]x", "[link=http://x]y", "=HYPERLINK(1)", "<script>alert(1)</script>", "../../etc/passwd", "/dev/zero"),
    *("null", "true", "{}", "%s%n", "${x}", "İ", "ﷺ" * 40, "e\u0301" * 60, "٣", "²", "1,5", "2026-02-30"),
    *("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-03-29T02:30", "99999999999999"),
)
VALUES: tuple[Any, ...] = (
    *(None, True, False, [], {}, [[]], [None], {"": None}, {"a": {"a": {}}}),
    *(0, -1, 1, 2**31, 2**32, 2**53 + 1, 2**63, 2**64, -(2**63) - 1, 10**400, 0.5, -0.0, 1e308, 5e-324),
    *(float("nan"), float("inf"), [0] * 3_000, ["x"] * 3_000),
)
OUTRIGHT = (
    *(b"", b"\0", b"\n", b" " * 9_999, b"\xff\xfe", b"\xef\xbb\xbf", b"\xff" * 999, b"\0" * 9_999, b"{", b"null"),
    *(b"[" * DEEP, b'{"a":' * DEEP, b"(" * DEEP, b"a" * DEEP, b"9" * DEEP, b'"' + b"\\" * 999, b"a.b." * 9_999),
    *(b"x = " + b"[" * DEEP, b"x = " + b"{a=" * 9_999, b"[" + b"a." * 9_999 + b"a]", b"x = 1" + b"0" * 9_999),
    *(b"PK\x03\x04" + b"\0" * 99, b"\x1f\x8b\x08" + b"\0" * 99, b"PAR1PAR1", b"PAR1" + b"\xff" * 99 + b"PAR1"),
    *(b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", b"\x80\x04K\x01."),
)
_WORD = re.compile(rb"-?[0-9][0-9.eE+-]*|[A-Za-z_]+")


class TooLong(BaseException):
    """A case took more than SECONDS_MAX; not an Exception, so that nothing takes it for its own."""


class Surface(NamedTuple):
    """Something that reads what others supply. samples: valid ones; feed: reads one, and returns or raises."""

    name: str
    samples: Callable[[], list[bytes]]
    feed: Callable[[bytes], object]
    structured: bool = False


class Outcome(NamedTuple):
    """What became of one case. fault: "" if it was accepted, or refused as it should be."""

    fault: str
    accepted: bool
    seconds: float
    megabytes: float


def cases(surface: Surface, seed: int, count: int) -> Iterator[bytes]:
    """`count` hostile contents for the surface; about one in 40 is no mutation of a sample."""
    chance = random.Random(f"{surface.name} {seed}")
    samples = surface.samples()
    for _ in range(count):
        if chance.random() < 0.025:
            yield chance.choice(OUTRIGHT)
        else:
            yield mutated(chance.choice(samples), chance, structured=surface.structured)


def mutated(sample: bytes, chance: random.Random, *, structured: bool = False) -> bytes:
    """The sample with one to four changes; of its structure in two cases of three, if it is JSON."""
    if structured and chance.random() < 0.67:
        try:
            return _restructured(sample, chance)
        except ValueError:
            pass  # not JSON: its bytes are changed
    content = bytearray(sample)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        chance.choice(_EDITS)(content, chance)
    return bytes(content)


def _restructured(sample: bytes, chance: random.Random) -> bytes:
    top: list[Any] = [json.loads(sample)]
    for _ in range(chance.choice((1, 1, 2, 3))):
        _change(top, chance)
    return json.dumps(top[0], separators=(",", ":")).encode()


def _change(top: list[Any], chance: random.Random) -> None:
    holder, key = _anywhere(top, chance)
    value = holder[key]
    way = chance.randrange(7)
    if way == 0 and holder is not top:
        del holder[key]
    elif way == 1 and isinstance(holder, list) and holder is not top:
        holder.insert(key, value)
    elif way == 2 and isinstance(holder, dict):
        holder[chance.choice(TEXTS)] = holder.pop(key)
    elif way == 3:
        other, name = _anywhere(top, chance)
        holder[key] = json.loads(json.dumps(other[name]))
    elif way == 4:
        holder[key] = json.loads("[" * 200 + json.dumps(value) + "]" * 200)
    elif way == 5:
        holder[key] = chance.choice(TEXTS)
    else:
        holder[key] = chance.choice(VALUES)


def _anywhere(top: list[Any], chance: random.Random) -> tuple[Any, Any]:
    """A holder and a key in it: every part of the document can be found."""
    holder: Any = top
    key: Any = 0
    while isinstance(holder[key], (dict, list)) and holder[key] and chance.random() < 0.85:
        holder = holder[key]
        key = chance.choice(list(holder)) if isinstance(holder, dict) else chance.randrange(len(holder))
    return holder, key


def _place(content: bytearray, chance: random.Random) -> int:
    return chance.randrange(len(content) + 1)


def _flip(content: bytearray, chance: random.Random) -> None:
    if content:
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)


def _set(content: bytearray, chance: random.Random) -> None:
    if content:
        content[chance.randrange(len(content))] = chance.choice(
            b"\0\xff\"'[]{}(),;:\\\n\r\t\x1b-+.eE09 #=" + bytes([7])
        )


def _cut(content: bytearray, chance: random.Random) -> None:
    begin = _place(content, chance)
    del content[begin : begin + chance.choice((1, 2, 8, 64, len(content)))]


def _double(content: bytearray, chance: random.Random) -> None:
    begin = _place(content, chance)
    part = content[begin : begin + chance.choice((1, 4, 32, 256))]
    content[begin:begin] = part * chance.choice((1, 1, 1, 500))


def _move(content: bytearray, chance: random.Random) -> None:
    begin, size = _place(content, chance), chance.choice((1, 4, 32, 256))
    part = content[begin : begin + size]
    del content[begin : begin + size]
    to = _place(content, chance)
    content[to:to] = part


def _word(content: bytearray, chance: random.Random) -> None:
    found = list(_WORD.finditer(content)) if len(content) < 200_000 else []
    if not found:
        return _flip(content, chance)
    word = chance.choice(found)
    content[word.start() : word.end()] = _hostile(chance)
    return None


def _insert(content: bytearray, chance: random.Random) -> None:
    begin = _place(content, chance)
    content[begin:begin] = _hostile(chance)


def _line(content: bytearray, chance: random.Random) -> None:
    lines = bytes(content).split(b"\n")
    number = chance.randrange(len(lines))
    if chance.random() < 0.5:
        del lines[number]
    else:
        lines.insert(chance.randrange(len(lines)), lines[number])
    content[:] = b"\n".join(lines)


def _hostile(chance: random.Random) -> bytes:
    text = chance.choice(NUMBERS if chance.random() < 0.5 else TEXTS)
    return text.encode("utf-8", "surrogatepass")


_EDITS = (_flip, _set, _cut, _double, _move, _word, _word, _insert, _line)


@contextmanager
def _timed() -> Iterator[None]:
    def ring(number: int, frame: object) -> None:
        raise TooLong

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 15 * SECONDS_MAX)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def attempt(feed: Callable[[bytes], object], content: bytes) -> Outcome:
    """Feed one content, and say what was wrong with how it was taken.

    Time is that of this thread's processor, so that a busy machine makes nobody fail; a case that does not end at all
    is cut off.
    """
    fault, accepted = "", False
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.thread_time()
    try:
        with _timed():
            feed(content)
        accepted = True
    except SentinelError:
        pass
    except TooLong as error:
        fault = f"no end{_where(error)}"
    except BaseException as error:
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise
        fault = f"{type(error).__name__}: {str(error)[:120]!r}{_where(error)}"
    seconds = time.thread_time() - began
    megabytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) / 1024
    if not fault and seconds > SECONDS_MAX:
        fault = f"took {seconds:.1f} s"
    if not fault and megabytes > MEGABYTES_MAX:
        fault = f"took {megabytes:.0f} MB"
    return Outcome(fault, accepted, seconds, megabytes)


def _where(error: BaseException) -> str:
    """The innermost line of this project that the error passed."""
    at, place = error.__traceback__, ""
    while at is not None:
        name = at.tb_frame.f_code.co_filename
        if "/.venv/" not in name and "/lib/python" not in name and "/tests/" not in name:
            place = f" in {name.rsplit('/', 1)[-1]}:{at.tb_lineno}"
        at = at.tb_next
    return place
