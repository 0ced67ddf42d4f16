"""What a model reads is named by definition: equal definitions in two programs are one feature."""

from __future__ import annotations

import pytest

from core.errors import BadInput
from core.hashing import HashKey
from core.program.inputs import ModelColumns, offers, own_offers, own_reads
from core.program.library import kernel
from core.program.plan import Plan, plan
from tests.builders.own_columns import PROGRAM, inputs, program

KEY = HashKey.of("000102030405060708090a0b0c0d0e0f")


def planned(features: str, fields: str = 'd = { from = "attributes.dist1", type = "number" }') -> Plan:
    head = '[program]\nname = "p"\nversion = "1.0.0"\nuses = ["standard@1"]\n'
    return plan(program(f"{head}[fields]\n{fields}\n[features]\n{features}\n").checked, kernel())


def identity(made: Plan, name: str) -> str:
    return next(each.identity for each in offers(made).values() if each.name == name)


def test_names_do_not_matter() -> None:
    """Features, fields and entities under other names, and a feature inlined by hand, have the same identities."""
    one = planned("""near = "d / 10.0"\nmean_near = "mean(account, '7d', d, d > 1) - near\"""")
    two = planned(
        """x = "mean(account, '7d', km, km > 1.0) - tens"\ntens = "km/10.0\"""",
        'km = { from = "attributes.dist1", type = "number" }',
    )
    assert identity(one, "near") == identity(two, "tens")
    assert identity(one, "mean_near") == identity(two, "x")
    assert identity(one, "d") == identity(two, "km")


def test_what_it_means_does() -> None:
    """Another window, condition, attribute, default, type or entity is another feature."""
    fields = (
        'd = { from = "attributes.dist1", type = "number" }\ne = { from = "attributes.dist2", type = "number" }\n'
        'f = { from = "attributes.dist1", type = "number", default = 0 }\n'
        's = { from = "attributes.dist1", type = "string" }\nt = { from = "attributes.dist1", type = "bool" }\n'
        's2 = { from = "attributes.dist1", type = "string", default = "0" }'
    )
    texts = ["d + 1", "e + 1", "f + 1", "d - 1", "sum(account, '7d', d)", "sum(account, '6d', d)", "d > 1",
             "sum(account, '7d', d, d > 1)", "sum(account, '7d', e)", "mean(account, '7d', d)",
             "count_24h + 1"]  # fmt: skip
    made = planned("\n".join(f'x{k} = "{text}"' for k, text in enumerate(texts)), fields)
    names = [*(f"x{k}" for k in range(len(texts))), "d", "e", "f", "s", "t", "s2"]
    assert len({identity(made, name) for name in names}) == len(names)


def test_a_feature_that_is_a_field_is_that_field_and_one_of_the_kernels_is_the_kernels() -> None:
    """`x = d` is d, and a definition that the kernel computes is the kernel's column: neither is there twice."""
    made = planned("""x = "d"\nmine = "count(account, '24h')\"""")
    found = [each.name for each in offers(made).values() if not each.is_common]
    assert found == ["x"]
    assert identity(made, "x") == identity(planned("y = 'd + 1'"), "d")


def test_identities_never_change() -> None:
    """Artifacts name them for ever."""
    made = plan(program(PROGRAM).checked, kernel())
    assert {name: identity(made, name)[:16] for name in ("count_24h", "far", "visas", "brand", "country")} == {
        "count_24h": "e0b4a432d1521392",
        "far": "a1d4152ce79bd2d8",
        "visas": "0285d237e5f6ad69",
        "brand": "980b086461a4a501",
        "country": "767876ac63b6020b",
    }


def test_a_program_that_only_adds_serves_and_one_that_lacks_says_what() -> None:
    """The message names what is missing and what to do; kinds must agree."""
    loaded = program()
    reads = inputs(loaded)
    more = program(PROGRAM.replace("far =", "zero = '1.0 - distance_km'\nfar =").replace('"own"', '"more"'))
    ModelColumns(plan(more.checked, kernel()), KEY, reads)
    less = program(PROGRAM.replace("'visa'", "'amex'").replace("distance_km / 10.0", "distance_km / 9.0"))
    with pytest.raises(BadInput, match=r"reads far, visas, which the program own@1\.0\.0 does not define: add the"):
        ModelColumns(plan(less.checked, kernel()), KEY, reads)
    with pytest.raises(BadInput, match="reads brand as another kind"):
        wrong = [each._replace(kind="number", levels=()) if each.name == "brand" else each for each in reads]
        ModelColumns(plan(loaded.checked, kernel()), KEY, wrong)


def test_events_name_what_only_some_programs_have() -> None:
    """A registered program says what it offers beyond all others, a registered model what it reads of that."""
    loaded = program()
    offered = own_offers(plan(loaded.checked, kernel()))
    assert set(offered.values()) == {"far", "kept_out", "visas", "distance_km", "brand", "email", "present"}
    reads = own_reads(inputs(loaded))
    assert reads.items() <= offered.items() and "count_24h" not in reads.values() and "country" not in reads.values()
    assert own_reads(None) == {}
