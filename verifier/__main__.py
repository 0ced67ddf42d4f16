"""Runs the verifier from this folder, without installing it: `python3 -I verifier FILE --public-key KEY`."""

import sys

from sentinel_verify.cli import run

sys.exit(run())
