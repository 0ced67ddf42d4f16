"""Environment variables that look like settings and are none: nobody reads them, and nobody says so."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches

from console.api.oidc_settings import SECRET_VARIABLE
from console.identity_keys import PASSPHRASE
from console.server_findings import Finding
from core.jit_cache import PREBUILT_VARIABLE
from core.settings import FILE_VARIABLE, TABLES, Settings, environment_name
from responders.settings import respond_settings

OURS = ("SENTINEL_", "STREAM_SENTINEL_")
THEIRS = ("KAFKA_", "REDIS_", "FRAUD_", "CONSUMER_")
"""How some settings begin, and other programs' variables, too: only near misses of a setting are told."""
NEAR = 0.85
_OF_KUBERNETES = re.compile(r"_SERVICE_(HOST|PORT)|_PORT(_\d+_(TCP|UDP)|$)")
"""What Kubernetes sets for each service, whatever its name."""


def environment_findings(s: Settings) -> Iterator[Finding]:
    """Of this process's environment."""
    for variable, meant in unread(os.environ, _named(s)).items():
        yield Finding("environment", "warn", f"{variable} is set, and nothing reads it", meant)


def _named(s: Settings) -> set[str]:
    """Variables that the settings name."""
    channels = respond_settings(s.responders).channels.values()
    return {name for each in channels for name in (each.url_env, each.secret_env) if name}


def unread(environ: Mapping[str, str], named: set[str]) -> dict[str, str]:
    """By variable that looks like a setting and is none, what may have been meant."""
    fields = [name for name in Settings.__struct_fields__ if name not in TABLES]
    known = {environment_name(name) for name in fields}
    known |= {FILE_VARIABLE, PASSPHRASE, SECRET_VARIABLE, PREBUILT_VARIABLE, *named}
    return {
        variable: meant
        for variable in sorted(set(environ) - known)
        if not _OF_KUBERNETES.search(variable) and (meant := _meant(variable, known, fields))
    }


def _meant(variable: str, known: set[str], fields: list[str]) -> str:
    """What to do about it; "" if it may well be another program's."""
    is_ours = variable.startswith(OURS) and not variable.startswith("SENTINEL_TEST_")
    if not is_ours and not variable.startswith(THEIRS):
        return ""
    bare = variable.removeprefix("STREAM_").removeprefix("SENTINEL_").lower()
    if bare in TABLES and is_ours:
        return f"{bare} is a table: set it in a settings file, named by --config or {FILE_VARIABLE}"
    if bare in fields:
        return f"did you mean {environment_name(bare)}?"
    nearest = get_close_matches(variable, known, 1, 0.6 if is_ours else NEAR)
    if nearest:
        return f"did you mean {nearest[0]}?"
    return "unset it, or look for the setting's name in docs/settings.md" if is_ours else ""
