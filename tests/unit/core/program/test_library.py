"""The shipped library: its identity, and that its text says what kernel, rules and policy do."""

from __future__ import annotations

from core import control, policy, rules
from core.features import spec
from core.program import document, library, loading
from core.program.language import walk
from core.program.shipped import DEFAULT_PROGRAM, LIBRARIES
from core.program.typed import Aggregate, Column

STANDARD = library.library(LIBRARIES["standard@1"])


def test_what_is_shipped_never_changes() -> None:
    """The documents beside the module have the identities that programs in logs name."""
    assert {label: document.digest(library.parsed("standard.toml").program) for label in LIBRARIES} == LIBRARIES
    assert document.digest(library.default_program()) == DEFAULT_PROGRAM
    assert LIBRARIES == {"standard@1": "07a856081c35972bd9b0d29631f4049c6e24a2448ed76269e3caf3a57461777e"}
    assert loading.default().digest == DEFAULT_PROGRAM


def test_every_column_of_the_kernel_has_a_definition() -> None:
    """The amount is a field; every other column is a feature of this name, and definitions are told apart."""
    assert {*STANDARD.expressions, "amount"} == set(spec.NAMES)
    kernel = library.kernel()
    assert set(kernel.values()) == set(spec.NAMES)
    for name, expression in STANDARD.expressions.items():
        assert kernel[library.identity(expression)] == name


def test_windows_are_the_kernels() -> None:
    """An aggregate's window has the length of the kernel's; a function without arguments is the column of its name."""
    spans = {window.name: window.width_ms * window.buckets for window in spec.WINDOWS}
    for name, expression in STANDARD.expressions.items():
        for _, part in walk(expression):
            if isinstance(part, Aggregate) and part.window_ms:
                assert part.window_ms == spans[name.rpartition("_")[2]], name
            if isinstance(part, Column) and part.source == "library":
                assert part.name == name
    sizes = {
        name: each.size for name, each in STANDARD.expressions.items() if isinstance(each, Aggregate) and each.size
    }
    assert sizes == {
        "merchant_is_new": spec.RECENT_MERCHANTS,
        "category_is_new": spec.RECENT_CATEGORIES,
        "country_is_new": spec.RECENT_COUNTRIES,
        "device_is_new": spec.RECENT_DEVICES,
    }


def test_phrases_and_units_are_the_specs() -> None:
    """Alerts say the same words."""
    for feature in spec.FEATURES:
        if feature.name != "amount":
            defined = STANDARD.program.features[feature.name]
            assert (defined.unit, defined.phrase) == (feature.unit, feature.phrase), feature.name


def test_rules_and_parameters_are_those_of_the_table() -> None:
    """Codes in order, effects, and every default."""
    assert [(rule.code, rule.effect) for rule in STANDARD.rules] == [(rule.code, rule.effect) for rule in rules.RULES]
    thresholds = {
        "review_probability": control.DEFAULT_REVIEW,
        "decline_probability": control.DEFAULT_DECLINE,
        "review_loss": 0.0,
        "decline_loss": 0.0,
    }
    assert STANDARD.program.parameters == rules.PARAMETERS | thresholds
    assert STANDARD.program.decision.actions == policy.ACTIONS
