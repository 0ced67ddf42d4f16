"""Reads what channels need and no settings file holds: signing secrets and the addresses of services."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from pathlib import Path

from core.errors import BadInput
from core.private_files import read_secret
from responders.channels.base import Channel
from responders.channels.service import Service
from responders.channels.webhook import Webhook
from responders.settings import Channel as ChannelSettings
from responders.settings import RespondSettings, check_url

PREFIX = "whsec_"
SECRET_BYTES = (24, 64)
"""Standard Webhooks: 192 to 512 bits."""


def open_channels(settings: RespondSettings, environ: Mapping[str, str]) -> dict[str, Channel]:
    """Every channel by name. Raises BadInput, without repeating a secret, if one can't be read or is not valid."""
    return {name: _opened(name, channel, environ) for name, channel in settings.channels.items()}


def _opened(name: str, channel: ChannelSettings, environ: Mapping[str, str]) -> Channel:
    where = f"responders.channels.{name}"
    url = channel.url or _read(where, "url", channel.url_env, channel.url_file, environ)
    if channel.kind == "apprise":
        return Service(where, url, channel.timeout_s)
    check_url(where, url)
    given = _read(where, "secret", channel.secret_env, channel.secret_file, environ)
    return Webhook(url, [_secret(where, each) for each in given.split()], channel.timeout_s)


def _read(where: str, what: str, variable: str, file: str, environ: Mapping[str, str]) -> str:
    if variable:
        value = environ.get(variable, "").strip()
        if not value:
            raise BadInput(f"{where}: the environment variable {variable} ({what}_env) is not set")
        return value
    return read_secret(Path(file), f"{where}: {what}_file")


def _secret(where: str, text: str) -> bytes:
    low, high = SECRET_BYTES
    remedy = "make one with: echo whsec_$(openssl rand -base64 32)"
    try:
        secret = base64.b64decode(text.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise BadInput(f"{where}: its secret is not {PREFIX} and base64; {remedy}") from None
    if not low <= len(secret) <= high:
        raise BadInput(f"{where}: its secret has {len(secret)} bytes, not {low} to {high}; {remedy}")
    return secret
