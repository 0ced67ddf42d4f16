"""Learning gives the same bytes on every processor.

Processors are told apart by what they lack: numpy, the C library and BLAS are told to do without the vector
instructions of newer ones, which changes the last bits of their exp, log, pow and dot products.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys

import lightgbm
import numpy as np
import pytest

from learners import platt
from learners.training import boosting, incremental, online
from projections.labelling import reliability

OLDER = {
    "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL AVX512_SPR",
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA,-AVX512F,-FMA4,-AVX2_Usable,-FMA_Usable",
    "OPENBLAS_CORETYPE": "Prescott",
}
PLATFORM = "numpy's and the C library's switches used here are those of x86-64 Linux"
COLUMNS = tuple(f"f{i}" for i in range(12))


def learned() -> dict[str, str]:
    """Results of everything that learns, by name; and a sum by BLAS and logarithms that do depend on the processor."""
    random = np.random.Generator(np.random.PCG64(7))
    n = 4_000
    features = random.normal(size=(n, len(COLUMNS))).astype(np.float32)
    features[random.random(features.shape) < 0.1] = np.nan
    known = np.nan_to_num(features)
    labels = 1.3 * known[:, 0] + known[:, 1] + random.normal(size=n) > 2.6
    margins = 3.0 * random.normal(size=n) - 2.0
    learner = online.OnlineLearner(COLUMNS)
    learner.learn(features[:1_500], labels[:1_500])
    data = lightgbm.Dataset(features, labels.astype(np.float64), feature_name=list(COLUMNS))
    forest = lightgbm.train(boosting.parameters(3), data, 40).model_to_string().encode()
    refitted = incremental.refit(forest, features, labels, np.ones(n), incremental.IncrementalSettings())
    patterns: dict[reliability.Pattern, int] = {}
    for _ in range(2_000):
        raters = sorted(random.choice(6, size=2, replace=False).tolist())
        said = tuple((f"analyst:{r}", bool(random.random() < 0.5), int(random.integers(50, 101))) for r in raters)
        patterns[said] = patterns.get(said, 0) + 1
    judged = reliability.learn(patterns)
    return {
        "platt": repr(platt.fit(margins, random.random(n) < platt.probabilities(margins))),
        "online": hashlib.sha256(learner.export()).hexdigest(),
        "lightgbm": hashlib.sha256(forest).hexdigest(),
        "refit": hashlib.sha256(refitted).hexdigest(),
        "reliability": repr(judged),
        "not the core": repr((float(np.dot(margins, margins)), float(np.sum(np.log(np.abs(margins) + 0.1))))),
    }


@pytest.mark.skipif(sys.platform != "linux" or platform.machine() != "x86_64", reason=PLATFORM)
def test_learning_does_not_depend_on_the_processor() -> None:
    """Calibration, refits, the online learner, LightGBM and raters' reliabilities: all bits equal on an older one."""
    ours = {name: value for name, value in os.environ.items() if name not in OLDER}
    newer, older = (
        json.loads(
            subprocess.run(
                [sys.executable, "-m", __name__], env=environment, check=True, capture_output=True, timeout=300
            ).stdout
        )
        for environment in (ours, {**ours, **OLDER})
    )
    if newer.pop("not the core") == older.pop("not the core"):
        pytest.skip("this processor has none of the instructions that would be switched off")
    assert newer == older


if __name__ == "__main__":
    print(json.dumps(learned()))
