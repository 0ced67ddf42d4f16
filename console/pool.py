"""Runs work on a log's partitions in several processes, with one progress bar on stderr."""

from __future__ import annotations

import multiprocessing
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.queues import SimpleQueue
from typing import Any, TypeVar

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from console.gc_tuning import tune_for_reading
from console.terminal import console

T = TypeVar("T")
POLL_S = 0.05

_report: Callable[[int], object] | None = None


def each(
    work: Callable[..., T], calls: Sequence[tuple[Any, ...]], *, jobs: int, title: str, total: int, quiet: bool
) -> list[T]:
    """`work(*call)` for every call; results in order. `work` is a module-level function and may call `report`.

    A single call or job runs in this process. If a call fails, its error is raised once the running calls have ended.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console(stderr=True), disable=quiet or not sys.stderr.isatty()) as progress:
        task = progress.add_task(title, total=total)
        tune_for_reading()
        if jobs > 1 and len(calls) > 1:
            return _in_processes(work, calls, jobs, lambda count: progress.advance(task, count))
        _report_to(lambda count: progress.advance(task, count))
        try:
            return [work(*call) for call in calls]
        finally:
            _report_to(None)


def report(count: int) -> None:
    """Advance the progress bar by `count`."""
    if _report is not None:
        _report(count)


def _in_processes(
    work: Callable[..., T], calls: Sequence[tuple[Any, ...]], jobs: int, advance: Callable[[int], None]
) -> list[T]:
    context = multiprocessing.get_context("spawn")
    queue: SimpleQueue[int] = context.SimpleQueue()
    size = min(jobs, len(calls))
    with ProcessPoolExecutor(size, mp_context=context, initializer=_initialise, initargs=(queue,)) as pool:
        with _main_unnamed(), _interrupts_held():
            futures = [pool.submit(work, *call) for call in calls]
        while not all(f.done() for f in futures):
            while not queue.empty():
                advance(queue.get())
            time.sleep(POLL_S)
        return [f.result() for f in futures]


@contextmanager
def _main_unnamed() -> Iterator[None]:
    """Start child processes without importing this process's main module, which would cost each of them 1.3 s of CPU.

    `multiprocessing` finds the main module by these two names. Work is a module-level function, so no child needs it.
    """
    main = sys.modules["__main__"]
    held = {name: getattr(main, name) for name in ("__spec__", "__file__") if hasattr(main, name)}
    main.__spec__ = None
    main.__dict__.pop("__file__", None)
    try:
        yield
    finally:
        main.__dict__.update(held)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Block SIGINT while child processes start. They inherit the block, so that Ctrl-C, which signals the whole process
    group, can't interrupt their start with a traceback; `_initialise` lifts it.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _initialise(queue: SimpleQueue[int]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends the child without a word; the parent reports it
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    tune_for_reading()
    _report_to(queue.put)


def _report_to(report_to: Callable[[int], object] | None) -> None:
    global _report  # one bar a process
    _report = report_to
