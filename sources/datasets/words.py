"""The words that people's files use for "no value", "fraud" and "legitimate". Pure text; nothing here reads a file."""

from __future__ import annotations

import re

_NULL = "na n/a n.a. #n/a nan null (null) none nil nul - -- --- – — ? . \\n <na> missing"
NULL_WORDS = ("", *_NULL.split())
"""Without regard to case. None of them is a null word in a mapping unless the mapping names it (labels excepted)."""
_OPEN = "unknown unlabelled unlabeled pending open undecided unconfirmed tbd"
UNLABELLED = (*NULL_WORDS, *_OPEN.split())
_FRAUD = """1|true|yes|y|t|fraud|fraudulent|is_fraud|confirmed fraud|confirmed_fraud|chargeback|scam|illicit|laundering
|bad|betrug|fraude|frode|ja|j|oui|si|sí|sim|是"""
_LEGITIMATE = """0|false|no|n|legit|legitimate|genuine|normal|good|ok|valid|clean|honest|licit|non-fraud|non fraud
|nonfraud|non_fraud|not fraud|not_fraud|notfraud|no fraud|no_fraud|kein betrug|legitim|nein|non|não|nao|否"""
FRAUD_WORDS = tuple(_FRAUD.replace("\n", "").split("|"))
LEGITIMATE_WORDS = tuple(_LEGITIMATE.replace("\n", "").split("|"))
_NUMBER = re.compile(r"[+-]?\d{1,400}(?:[.,]0+)?")


def label_key(value: str) -> str:
    """How label values are compared: without spaces around them and case, and `1.00` as `1`."""
    text = value.strip().casefold()
    if _NUMBER.fullmatch(text):
        whole = re.split("[.,]", text)[0]
        return str(int(whole))
    return text


def is_null(value: str) -> bool:
    """Whether a value is one of NULL_WORDS."""
    return value.strip().casefold() in NULL_WORDS
