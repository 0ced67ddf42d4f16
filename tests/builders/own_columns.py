"""A stream with columns of its own, a program that types them, and LightGBM models that read them by definition."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import lightgbm
import msgspec
import numpy as np
from numpy.typing import NDArray

from core.events import ModelDeployed, ModelRegistered
from core.features import spec
from core.log.base import EventLog
from core.program.inputs import offers, own_reads
from core.program.library import kernel
from core.program.loading import Loaded, check
from core.program.plan import plan
from core.scoring import Input
from models.inputs import joined
from sources.record import Record
from sources.synthetic import SyntheticConfig, SyntheticStream

FIELDS = """
distance_km = { from = "attributes.dist1", type = "number" }
brand = { from = "attributes.card4", type = "string", default = "none" }
email = { from = "attributes.P_emaildomain", type = "string" }
present = { from = "attributes.M1", type = "bool" }
"""
PROGRAM = f"""
[program]
name = "own"
version = "1.0.0"
uses = ["standard@1"]

[fields]
{FIELDS}
[features]
far = "distance_km / 10.0"
kept_out = {{ value = "distance_km + count_24h", log = false }}
visas = "count(account, '7d', brand == 'visa')"
"""
READS = ("count_24h", "amount", "far", "kept_out", "visas", "distance_km", "present", "brand", "email", "country")
LEVELS: Mapping[str, tuple[str, ...]] = {
    "brand": ("visa", "none", "mastercard"),
    "email": ("a.com", "b.org", "Ω.net"),
    "country": ("DE", "US", "FR"),
}


def program(text: str = PROGRAM) -> Loaded:
    """The program of a text."""
    return check(text.encode())


def inputs(loaded: Loaded, names: Sequence[str] = READS) -> tuple[Input, ...]:
    """Inputs of a program by name, with LEVELS for categories."""
    known = {each.name: each for each in offers(plan(loaded.checked, kernel())).values()}
    return tuple(
        Input(known[name].identity, name, known[name].kind, LEVELS[name] if known[name].kind == "category" else ())
        for name in names
    )


def trained(reads: Sequence[Input], seed: int = 3) -> tuple[bytes, lightgbm.Booster]:
    """A LightGBM model of random data in the shape of the inputs, with categorical splits: (artifact, booster)."""
    random = np.random.default_rng(seed)
    x = random.normal(20.0, 40.0, size=(3000, len(reads)))
    y = np.zeros(len(x))
    for k, each in enumerate(reads):
        if each.kind == "category":
            x[:, k] = random.integers(0, len(each.levels) + (k % 2), len(x))  # some models know "any other level"
            y += (x[:, k] % 2 == 0) * 1.5
        else:
            y += x[:, k] > 20.0 + k
    x[random.random(x.shape) < 0.15] = np.nan
    labels = (y + random.normal(size=len(x)) > len(reads) / 2).astype(np.float64)
    categories = [k for k, each in enumerate(reads) if each.kind == "category"]
    data = lightgbm.Dataset(x, labels, feature_name=[each.name for each in reads], categorical_feature=categories)
    parameters = {
        "objective": "binary", "num_leaves": 15, "verbose": -1, "num_threads": 1, "seed": seed, "cat_smooth": 1.0,
        "min_data_per_group": 5,
    }  # fmt: skip
    booster = lightgbm.train(parameters, data, 20)
    return joined(reads, booster.model_to_string().encode()), booster


def stored(log: EventLog, content: bytes, reads: Sequence[Input], version: str = "1.0.0") -> list[ModelRegistered]:
    """The artifact in the log, and the event that registers it."""
    digest = log.put_blob(content)
    assert digest == hashlib.sha256(content).hexdigest()
    of_own = own_reads(reads)
    return [
        ModelRegistered(
            occurred_at=6, actor="ann", name="named", version=version, digest=digest, spec=spec.SPEC_VERSION,
            reads=of_own,
        )
    ]  # fmt: skip


def deployment(registered: ModelRegistered, alias: str = "champion") -> ModelDeployed:
    """The event that deploys it."""
    named = {"name": registered.name, "version": registered.version, "digest": registered.digest}
    return ModelDeployed(occurred_at=7, actor="ann", alias=alias, **named)  # type: ignore[arg-type]


def attributes(n: int) -> dict[str, float | str]:
    """Of payment n: every value that is there, missing, of another type, or a level that no model knows."""
    found: dict[str, float | str] = {}
    if n % 5:
        found["dist1"] = n % 97 if n % 11 else "far"
    if n % 3:
        found["card4"] = ("visa", "mastercard", "discover", "")[n % 4]
    if n % 7:
        found["P_emaildomain"] = ("a.com", "b.org", "Ω.net", "a.com ", "x.y")[n % 5] if n % 13 else 4.5
    if n % 2:
        found["M1"] = ("true", "false", "1", 1.0, 0.0)[n // 2 % 5]
    return found


def stream(transactions: int = 1200, seed: int = 5) -> list[Record]:
    """The synthetic stream, each payment with attributes of its own."""
    config = SyntheticConfig(transactions=transactions, days=20.0, accounts=40, fraud_rate=0.05, seed=seed)
    found: list[Record] = []
    n = 0
    for chunk in SyntheticStream(config, flush_feedback=True, labels="all").records():
        for record in chunk:
            if record.topic != "transactions":
                found.append(record)
                continue
            value = msgspec.json.decode(record.value) | {"attributes": attributes(n)}
            found.append(record._replace(value=msgspec.json.encode(value)))
            n += 1
    return found


def plain_row(
    sent: Mapping[str, float | str], country: str, vector: NDArray[np.float32], kept_out: float
) -> NDArray[np.float32]:
    """READS of one payment, by plain Python from what was sent and the stored vector."""

    def level(name: str, value: object) -> float:
        if not isinstance(value, str) or not value:
            return float("nan")
        known = LEVELS[name]
        return float(known.index(value)) if value in known else float(len(known))

    distance = sent.get("dist1")
    number = float(distance) if isinstance(distance, float | int) else float("nan")
    truth = {"true": 1.0, "false": 0.0, 1.0: 1.0, 0.0: 0.0}.get(sent.get("M1", "?"), float("nan"))
    brand = sent.get("card4", "none")
    own = {name: k for k, name in enumerate(("far", "visas"), spec.WIDTH)}
    return np.array(
        [
            vector[spec.index("count_24h")],
            vector[spec.index("amount")],
            vector[own["far"]],
            kept_out,
            vector[own["visas"]],
            number,
            truth,
            level("brand", brand if isinstance(brand, str) and brand else "none"),
            level("email", sent.get("P_emaildomain")),
            level("country", country),
        ],
        dtype=np.float32,
    )
