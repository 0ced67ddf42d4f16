"""`sentinel-verify FILE --public-key KEY`: prints what the proof proves, level by level."""

import argparse
import json
import struct
import sys
from pathlib import Path
from typing import Any

from . import bounds, bundle, record, score
from .checkpoint import Key
from .errors import Misuse, NotRecomputed, Refused

OK, NOT_REACHED, MISUSE, REFUSED = 0, 1, 2, 3

_MALFORMED = (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError, RecursionError, struct.error)
"""What malformed content of a proof can raise where it is read: it refuses the proof."""


def run() -> int:
    """The program `sentinel-verify`: `main` within the bounds on memory and time."""
    given = _parser().parse_args()
    bounds.limit(given.seconds, given.megabytes)
    return main()


def main(arguments: list[str] | None = None) -> int:
    """The exit code: 0 verified up to the level asked for, 1 that level was not reached, 2 misuse, 3 refused."""
    given = _parser().parse_args(arguments)
    try:
        texts = [line for text in given.public_key or [] for line in _key_text(text).splitlines() if line.strip()]
        keys = [Key.parse(text) for text in texts]
        if not keys and not given.unanchored:
            raise Misuse("--public-key is required: the log's public key, from a source that you trust")
        try:
            content = Path(given.file).read_bytes()
        except OSError as error:
            raise Misuse(f"can't read {given.file}: {error.strerror}") from None
    except Misuse as error:
        print(f"error: {error}", file=sys.stderr)
        return MISUSE
    found = verify(content, keys, given.level, given.unanchored)
    print(json.dumps(found, indent=1) if given.json else text(found))
    return int(found["exit_code"])


def verify(content: bytes, keys: list[Key], level: int = 0, unanchored: bool = False) -> dict[str, Any]:
    """What a proof proves, as printed by --json. level: 0 for 3 if the proof holds the account's history, else 2."""
    found: dict[str, Any] = {"verified": False, "level": 0, "taken_from_record": [], "not_reached": ""}
    try:
        proof = bundle.read(content)
        proved = record.check(proof, keys)
        _describe(found, proof, proved)
        if proved.checkpoint is None and not unanchored:
            raise Refused("the proof contains no signed checkpoint, so nothing outside of it vouches for it; see"
                          " --unanchored")  # fmt: skip
        found["level"] = 1
        level = level or (2 if proved.history is None else 3)
        if level >= 2:
            _second(found, proof, proved, level)
    except Refused as error:
        found["refused"] = str(error)
    except MemoryError:
        found["refused"] = "it takes more memory than is allowed; allow more with --megabytes"
    except _MALFORMED as error:
        found["refused"] = f"the proof has another form than it must have: {type(error).__name__} {error}"
    found["verified"] = "refused" not in found and found["level"] >= max(level, 1)
    found["exit_code"] = REFUSED if "refused" in found else OK if found["verified"] else NOT_REACHED
    return found


def _second(found: dict[str, Any], proof: bundle.Bundle, proved: record.Record, level: int) -> None:
    try:
        done = score.recompute(proved, proof.partition, proof.blobs, is_past_read=level > 2)
    except NotRecomputed as error:
        found["not_reached"] = str(error)
        return
    found["taken_from_record"] = done.taken
    found["settings"] = done.settings
    found["settings_complete"] = proved.refused is not None
    found["refused_events"] = proved.refused or []
    found["rules"] = done.rules
    found["features_recomputed"] = done.features
    found["features_from_record"] = done.recorded
    found["not_reached"] = done.missing or done.unread
    if done.past is not None and proved.history is not None:
        verdicts = len(proved.history.feedback)
        found["history"] = {"payments": done.past.earlier, "before": done.past.begins, "feedback": verdicts}
    if not done.missing:
        found["level"] = 2 if done.past is None else 3


def _describe(found: dict[str, Any], proof: bundle.Bundle, proved: record.Record) -> None:
    t, s = proved.transaction, proved.score
    found["transaction"] = {name: t[name] for name in ("transaction_id", "account_id", "amount", "occurred_at")}
    found["decision"] = {
        name: s.get(name) for name in ("decision", "severity", "model", "program", "margin", "probability")
    }
    found["decision"]["rules"] = s.get("rules", [])
    found["place"] = {
        "partition": proof.partition,
        "position": proof.position,
        "seal": proof.seal.sequence,
        "seal_digest": proved.digest,
        "control_position": s["c"],
    }
    if (c := proved.checkpoint) is not None:
        found["checkpoint"] = {"log_id": c.log_id, "number": c.number, "time": c.time, "signed_by": c.signers}


def text(found: dict[str, Any]) -> str:
    """What a proof proves, for people."""
    lines = []
    if "transaction" in found:
        t, s, place = found["transaction"], found["decision"], found["place"]
        severity = f", severity {s['severity']}" if s["severity"] else ""
        lines.append(f"payment    {t['transaction_id']} of account {t['account_id']}, amount {t['amount']}")
        lines.append(f"decision   {s['decision']}{severity}; model {s['model']}, program {s['program']}")
        lines.append(f"place      p{place['partition']:02d}:{place['position']}, under seal {place['seal']}"
                     f" and control position {place['control_position']}")  # fmt: skip
    if (c := found.get("checkpoint")) is not None:
        lines.append(f"signed     checkpoint {c['number']} of {c['time']}, by {', '.join(c['signed_by'])}")
    elif found["level"]:
        lines.append("UNANCHORED nothing signed vouches for this: it holds if you know from elsewhere that seal"
                     f" {found['place']['seal']} has the digest {found['place']['seal_digest']}, and that the control"
                     " events and the history in the proof are the log's")  # fmt: skip
    if found["level"]:
        lines.append("level 1    record intact: the decision stands in the log like this")
    if found["level"] >= 2:
        s = found["decision"]
        lines.append(f"level 2    score recomputed: margin {s['margin']!r}, probability {s['probability']!r},"
                     f" {found['rules']} rules, decision and severity")  # fmt: skip
    if found.get("settings"):
        shown = ", ".join(f"{name} by event {position}" for name, position in found["settings"].items())
        known = "that no later event changed them is not shown"
        if found["settings_complete"]:
            refused = ", ".join(map(str, found["refused_events"])) or "none"
            known = f"of all control events; without effect, by the log's rules of approval: {refused}"
        lines.append(f"           settings: {shown}; {known}")
    if found["level"] >= 3:
        lines.append(_of_history(found))
    if found.get("features_recomputed"):
        of = "the payment and the history" if "history" in found else "the payment"
        lines.append(f"           features recomputed from {of}: {', '.join(found['features_recomputed'])}")
        reasons = found["features_from_record"].values()
        for why in dict.fromkeys(reasons):
            names = [name for name, each in found["features_from_record"].items() if each == why]
            lines.append(f"           features taken from the record ({why}): {', '.join(names)}")
    lines += [f"           taken from the record: {each}" for each in found["taken_from_record"]]
    if found["not_reached"]:
        lines.append(f"level {found['level'] + 1}    NOT REACHED: not recomputed: {found['not_reached']}")
    lines.append(f"REFUSED    {found['refused']}" if "refused" in found else "")
    return "\n".join(filter(None, map(_harmless, lines)))


def _of_history(found: dict[str, Any]) -> str:
    held = found["history"]
    which = f"all {held['payments']}" if not held["before"] else f"the last {held['payments']}"
    more = f"; {held['before']} before them are not in the proof" if held["before"] else ""
    return (
        f"level 3    features recomputed: from {which} payments that the account's decisions counted before this one,"
        f" and the verdicts and blocks on it ({held['feedback']}){more}"
    )


def _harmless(line: str) -> str:
    """Without characters that a terminal acts on."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in line)


def _key_text(text: str) -> str:
    """A key given as text, or the content of a file."""
    path = Path(text)
    try:
        if "+" not in text or path.is_file():
            return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Misuse(f"can't read the key {text[:200]}: {error}") from None
    return text


def _positive(text: str) -> int:
    if not 1 <= int(text) <= 10**6:
        raise ValueError
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sentinel-verify",
        description="Verify one decision of a Stream-Sentinel log, offline, from a proof and a public key.",
        epilog="Exit code: 0 verified up to the level, 1 the level was not reached, 2 misuse, 3 refused.",
    )
    parser.add_argument("file", metavar="FILE", help="the proof that `sentinel prove` wrote")
    parser.add_argument(
        "--public-key", action="append", metavar="KEY",
        help="the log's public key, name+key ID+base64, or a file that holds it; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--level",
        type=int,
        choices=(1, 2, 3),
        default=0,
        help="1: record intact; 2: score recomputed; 3: features recomputed from the account's history. Default: 3 if"
        " the proof holds that, else 2",
    )
    parser.add_argument(
        "--unanchored", action="store_true", help="accept a proof without a signed checkpoint, as from development"
    )
    parser.add_argument(
        "--seconds", type=_positive, default=600, metavar="N", help="stop after so long, refused (default: 600)"
    )
    parser.add_argument(
        "--megabytes", type=_positive, default=3072, metavar="N", help="use at most so much memory (default: 3072)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser
