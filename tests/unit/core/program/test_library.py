"""The shipped library: its identity, and that its text says what kernel, rules and policy do."""

from __future__ import annotations

from core import control, policy
from core.features import spec
from core.program import document, library, loading
from core.program.document_reading import ACTIONS, placeholders
from core.program.language import names_read, walk
from core.program.shipped import DEFAULT_PROGRAM, LIBRARIES
from core.program.typed import Aggregate, Column

STANDARD = library.library(LIBRARIES["standard@1"])


def test_what_is_shipped_never_changes() -> None:
    """The documents beside the module have the identities that programs in logs name."""
    assert {label: document.digest(library.parsed("standard.toml").program) for label in LIBRARIES} == LIBRARIES
    assert document.digest(library.default_program()) == DEFAULT_PROGRAM
    assert LIBRARIES == {"standard@1": "85b74dc57cf727737e87037f168692820b6ceb597e81a13aaabc0aa80c55fe97"}
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


def test_every_parameter_is_read_and_thresholds_have_the_logs_defaults() -> None:
    """A rule, the decision or the severity reads each; the control stream's thresholds start where the text does."""
    conditions = [rule.when for rule in STANDARD.rules]
    conditions += [each for each in (STANDARD.decline, STANDARD.review) if each is not None]
    conditions += [each for _, each in STANDARD.severity]
    assert {name for each in conditions for name in names_read(each).parameters} == set(STANDARD.program.parameters)
    thresholds = policy.threshold_parameters(policy.Thresholds(control.DEFAULT_REVIEW, control.DEFAULT_DECLINE))
    assert thresholds.items() <= STANDARD.program.parameters.items()


def test_actions_are_recommended_for_every_severity() -> None:
    """Each of those that a document may name is recommended for at least one."""
    actions = STANDARD.program.decision.actions
    assert actions.keys() == set(policy.SEVERITIES)
    assert {each for of_severity in actions.values() for each in of_severity} == set(ACTIONS)


def test_every_rule_has_words_about_what_it_reads() -> None:
    """Readers have nothing else: the words name features and parameters, and at least one that the condition reads."""
    for rule in STANDARD.rules:
        read, named = names_read(rule.when), placeholders(rule.words)
        assert rule.words, rule.code
        assert set(named) <= {*spec.NAMES, *STANDARD.program.parameters}, rule.code
        assert not named or {*read.fields, *read.features, *read.library} & {*named}, rule.code
