"""Models that were trained elsewhere: a file's names of columns, as the program's features and fields."""

from __future__ import annotations

import hashlib

import pytest

from core.errors import BadInput
from core.features import spec
from core.program.library import kernel
from core.program.plan import Plan, plan
from models.artifacts import load_scorer
from models.inputs import parts
from models.naming import named
from tests.builders.own_columns import LEVELS, READS, inputs, program, trained

PANDAS = (
    b'\npandas_categorical:[["visa", "none", "mastercard"], ["a.com", "b.org", "\\u03a9.net"], ["DE", "US", "FR"]]\n'
)


def made() -> Plan:
    return plan(program().checked, kernel())


def never() -> Plan:
    raise AssertionError("the program is not asked for")


def plain(names: tuple[str, ...] = READS) -> bytes:
    """A LightGBM model as its library writes it."""
    return parts(trained(inputs(program(), names))[0]).model


def test_names_become_definitions_and_pandas_levels_are_kept() -> None:
    """As if it had been written by `sentinel train`; what pandas says of categories are the levels."""
    content = plain().replace(b"\npandas_categorical:null\n", PANDAS)
    assert content != plain()
    found = named(content, spec.NAMES, made)
    assert parts(found).inputs == inputs(program()) and parts(found).model == content
    assert {each.name: each.levels for each in parts(found).inputs or () if each.kind == "category"} == dict(LEVELS)
    digest = hashlib.sha256(found).hexdigest()
    load_scorer(found, version="m-1.0.0", expected_digest=digest, spec=spec.SPEC_VERSION, columns=spec.NAMES)
    assert named(found, spec.NAMES, never) == found


def test_models_of_the_feature_spec_stay_as_they_are() -> None:
    """Nobody asks for the program."""
    content = plain(("count_24h", "amount"))
    assert named(content, ("count_24h", "amount"), never) == content
    assert parts(named(content, spec.NAMES, made)).inputs == inputs(program(), ("count_24h", "amount"))


def test_what_nobody_can_know_is_refused() -> None:
    """Columns that the program lacks; categories whose numbers the file does not explain, or not those alone."""
    with pytest.raises(BadInput, match=r"reads faar, and the program own@1\.0\.0 has no such feature or field"):
        named(plain(("far", "visas")).replace(b"far", b"faar"), spec.NAMES, made)
    for line in (b"null", b'[["a"]]', b"[[1], [2], [3]]", b"nonsense"):
        content = plain().replace(b"\npandas_categorical:null\n", b"\npandas_categorical:" + line + b"\n")
        with pytest.raises(
            BadInput, match="brand, email, country: text in the program, and the file does not say which number"
        ):
            named(content, spec.NAMES, made)
