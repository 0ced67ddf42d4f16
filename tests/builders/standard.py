"""The program that is shipped, and batches to evaluate it on without the kernel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np

from core.canonical import Members
from core.context import NO_RATES
from core.events import ListEffect, ListKind
from core.features import remembered
from core.features.columns import TransactionLike, columns
from core.identity import FIXED
from core.policy import EFFECTS
from core.program.batch import Batch
from core.program.deciding import Hits, Program
from core.program.library import kernel
from core.program.loading import default
from core.program.plan import Plan, plan
from core.scoring import Float32


@cache
def standard_plan() -> Plan:
    """The plan of the shipped default program."""
    return plan(default().checked, kernel())


def standard(parameters: Mapping[str, float] | None = None, disabled: Sequence[str] = ()) -> Program:
    """The shipped default program with these parameters in force."""
    return Program(standard_plan(), FIXED.key, parameters or {}, disabled)


def batch(
    transactions: Sequence[TransactionLike],
    matrix: Float32,
    conflicts: Sequence[bool] = (),
    lists: Mapping[tuple[ListKind, ListEffect], Members] | None = None,
) -> Batch:
    """Payments with given features, float32 (n, WIDTH). conflicts: whether each one's ID is known with other content;
    none by default.
    """
    seen = np.full(len(transactions), remembered.NEW, dtype=np.uint8)
    seen[np.flatnonzero(conflicts)] = remembered.CONFLICT
    cols = columns(transactions, FIXED.key)
    return Batch(transactions, cols, matrix, seen, lists or {}, NO_RATES, FIXED.key, {})


def hits_of(program: Program, rows: Sequence[frozenset[str]]) -> Hits:
    """The hits of rows whose live rules are known by their codes."""
    live = np.array([[code in row for code in program.codes] for row in rows], dtype=np.uint8)
    effects = np.array([[rule.effect == effect for effect in EFFECTS] for rule in program.rules], dtype=np.int64)
    return Hits(live, np.zeros_like(live), live.astype(np.int64) @ effects)
