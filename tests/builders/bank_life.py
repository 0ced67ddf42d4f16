"""What people do in the bank (`tests.builders.bank`), so that every page of its console has something to show: a
program that two people bring into force, one that waits, a shadow model, an experiment, drift, lists, judged cases.

    python -m tests.builders.bank_life --port 8700    # until Ctrl-C, with payments that keep coming
"""

from __future__ import annotations

import argparse
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec

from ingest import kafka_client
from sources.synthetic import SyntheticConfig, SyntheticStream
from tests.builders.bank import DAYS, DRIFT_AT, PASSWORD, Bank, bank, until

PROGRAM = """[program]
name = "cards"
version = "1.0.0"
uses = ["standard@1"]

[[rules]]
code = "LARGE_ON_NEW_DEVICE"
when = "amount > 400 && device_is_new"
effect = "review"
words = "{amount:,.2f} on a device that the account never used"
owner = "ann"

[[rules]]
code = "VERY_LARGE"
when = "amount > 3000"
effect = "review"
words = "{amount:,.2f} in one payment"
owner = "ann"
"""
STRICTER = PROGRAM.replace('"1.0.0"', '"1.1.0"').replace("amount > 400", "amount > 250")
VERDICTS = ("fraud", "fraud", "legitimate", "fraud", "unsure", "legitimate", "fraud", "legitimate")


@contextmanager
def live(here: Bank, transactions: int, accounts: int, rate: float = 3.0) -> Iterator[None]:
    """Payments that keep coming, `rate` a second: those of the history's last days once more, under new IDs, so that
    accounts keep their devices, merchants and habits. The arguments are those of the history.
    """
    done = threading.Event()
    sender = threading.Thread(target=_send, args=(here, transactions, accounts, rate, done), daemon=True)
    sender.start()
    try:
        yield
    finally:
        done.set()
        sender.join()


def _send(here: Bank, transactions: int, accounts: int, rate: float, done: threading.Event) -> None:
    stream = SyntheticStream(
        SyntheticConfig(transactions=transactions, days=DAYS, accounts=accounts, drift_at=DRIFT_AT)
    )
    paid = [record for chunk in stream.records() for record in chunk if record.topic == "transactions"]
    producer = kafka_client.producer(here.settings)
    for number, record in enumerate(paid[len(paid) // 2 :]):
        if done.wait(1.0 / rate):
            break
        payment = msgspec.json.decode(record.value)
        payment |= {"transaction_id": f"now-{number:06d}", "occurred_at": int(time.time() * 1000)}
        producer.produce(here.settings.transactions_topic, msgspec.json.encode(payment), key=record.key.encode())
        producer.poll(0)
    producer.flush(10.0)


def live_a_while(here: Bank) -> None:
    """Everything above, in order; the acts are those of the console and of the command line."""
    with (
        closing(here.session("ann")) as ann,
        closing(here.session("bob")) as bob,
        closing(here.session("cho")) as cho,
        closing(here.session("root")) as root,
    ):
        _post(root, "/v1/four-eyes", {"on": True, "reason": "no one changes what decides alone"})
        _program(ann, bob)
        _policy(bob, cho)
        _cases(ann, bob)
        _models(here)
        _experiment(bob, cho)


def agreed(client: httpx.Client, second: httpx.Client, path: str, body: dict[str, Any], method: str = "POST") -> None:
    """An act that four eyes only propose, and its approval by somebody else."""
    for proposal in _post(client, path, body, method)["proposals"]:
        _post(second, f"/v1/proposals/{proposal}/approve", {"reason": "agreed"})


def _post(client: httpx.Client, path: str, body: dict[str, Any], method: str = "POST") -> Any:
    answer = client.request(method, path, json=body)
    assert answer.is_success, (path, answer.text)
    return answer.json()


def propose(client: httpx.Client, toml: str, reason: str) -> str:
    """The ID of a proposal of this program."""
    found: str = _post(client, "/v1/programs/proposals", {"toml": toml, "reason": reason})["proposal_id"]
    return found


def _program(ann: httpx.Client, bob: httpx.Client) -> None:
    first = propose(ann, PROGRAM, "large payments on devices that an account never used went through in March")
    _post(bob, f"/v1/programs/proposals/{first}/approve", {"reason": "the backtest shows 4 more frauds for 9 alerts"})
    _post(bob, f"/v1/programs/proposals/{first}/deploy", {"reason": "agreed in the weekly review"})
    propose(ann, STRICTER, "the limit of 400 misses half of what was charged back")


def _policy(bob: httpx.Client, cho: httpx.Client) -> None:
    cards = {
        "kind": "card",
        "effect": "block",
        "add": ["c-5512", "c-9034"],
        "reason": "reported stolen by their holders",
    }
    _post(bob, "/v1/lists", cards)
    shops = {"kind": "merchant", "effect": "watch", "add": ["m17"], "reason": "three chargebacks in a week"}
    _post(bob, "/v1/lists", shops)
    agreed(bob, cho, "/v1/thresholds", {"review": 0.4, "reason": "the queue was empty by noon"}, "PATCH")


def _cases(ann: httpx.Client, bob: httpx.Client) -> None:
    found = until(lambda: ann.get("/v1/cases", params={"limit": 40}).json()["cases"])
    cases = [row["case"]["case_id"] for row in found]
    for case, verdict in zip(cases, VERDICTS, strict=False):
        _post(ann, f"/v1/cases/{case}/resolve", {"verdict": verdict, "note": "called the customer"})
    for case in cases[8:11]:
        _post(ann, f"/v1/cases/{case}/assign", {"assignee": "ann"})
    for case in cases[11:13]:
        _post(bob, f"/v1/cases/{case}/assign", {"assignee": "bob"})
    _post(bob, f"/v1/cases/{cases[8]}/notes", {"note": "@ann same device as yesterday's two"})


def _experiment(bob: httpx.Client, cho: httpx.Client) -> None:
    arms = [{"name": "control"}, {"name": "retrained", "model": "baseline-1.1.0"}]
    why = "does the retrained model catch more on its own accounts?"
    started = {"experiment_id": "retrained", "arms": arms, "traffic": 50, "reason": why}
    agreed(bob, cho, "/v1/experiments", started)


def _models(here: Bank) -> None:
    act = ["--actor", "bob", "--reason"]
    here.run("register", "model", "register", "--version", "1.1.0", *act, "trained again on labels until March")
    here.run("shadow", "model", "promote", "baseline-1.1.0", "--as", "shadow", *act, "to see it beside the champion")
    looked = ["--settle-days", "0", "--reference-days", "14", "--window-days", "3", "--publish"]
    here.run("drift", "drift", *looked)


def main() -> None:
    """Run the bank until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8700)
    parser.add_argument("--transactions", type=int, default=30_000)
    asked = parser.parse_args()
    done = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: done.set())
    with tempfile.TemporaryDirectory(prefix="bank-") as directory:
        size = {"transactions": asked.transactions, "accounts": asked.transactions // 50}
        with bank(Path(directory), **size, drift=True, port=asked.port) as here, live(here, **size):
            live_a_while(here)
            print(f"{here.url}  ann, bob, eve or root, password: {PASSWORD}", flush=True)
            done.wait()


if __name__ == "__main__":
    main()
