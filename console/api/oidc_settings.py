"""The table `[oidc]` of the settings file: who vouches for people, and which roles its claims give. Without it, only
local users log in.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec

from console.api.users import Role
from core.errors import BadInput
from core.private_files import read_secret

SECRET_VARIABLE = "SENTINEL_OIDC_CLIENT_SECRET"
LOOPBACK = ("127.0.0.1", "::1", "localhost")
_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]


class OidcSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """issuer: as in its tokens. public_url: the console's address as browsers see it; the provider must know
    `<public_url>/v1/login/oidc/callback` as a redirect URI. roles: by value of `roles_claim`; "*" for everybody that
    the provider vouches for. name_claim: the actor's name. secret_file: holds the client's secret; without it, the
    environment variable does, or the client is public.
    """

    issuer: _Text
    client_id: _Text
    public_url: _Text
    roles: Annotated[dict[str, tuple[Role, ...]], msgspec.Meta(min_length=1)]
    roles_claim: _Text = "groups"
    name_claim: _Text = "email"
    scopes: tuple[str, ...] = ("openid", "email", "profile")
    label: Annotated[str, msgspec.Meta(min_length=1, max_length=60)] = "single sign-on"
    secret_file: str = ""
    ca_file: str = ""
    session_hours: Annotated[float, msgspec.Meta(gt=0, le=24)] = 8.0

    @property
    def redirect_uri(self) -> str:
        return f"{self.public_url.rstrip('/')}/v1/login/oidc/callback"

    @property
    def is_secure(self) -> bool:
        """Whether browsers reach the console by TLS."""
        return urlsplit(self.public_url).scheme == "https"

    def secret(self) -> str:
        """The client's secret; "" for a public client. Raises BadInput if the file can't be read or others may."""
        if not self.secret_file:
            return os.environ.get(SECRET_VARIABLE, "")
        return read_secret(Path(self.secret_file), "oidc.secret_file")


def oidc_settings(table: Mapping[str, Any]) -> OidcSettings | None:
    """The settings; None if the table is empty. Raises BadInput."""
    if not table:
        return None
    if "secret" in table or "client_secret" in table:
        raise BadInput(f"oidc: no secrets in this file: use secret_file, or the environment variable {SECRET_VARIABLE}")
    try:
        found = msgspec.convert(table, OidcSettings)
    except msgspec.ValidationError as error:
        raise BadInput(f"oidc: {error}") from None
    for name in ("issuer", "public_url"):
        if not _is_safe(getattr(found, name)):
            raise BadInput(
                f"oidc.{name} must be an https address (http only on loopback), not {getattr(found, name)!r}"
            )
    if "openid" not in found.scopes:
        raise BadInput('oidc.scopes must hold "openid"')
    return found


def _is_safe(url: str) -> bool:
    """Whether it is an https address, or http on loopback."""
    try:
        address = urlsplit(url)
    except ValueError:  # brackets in the host
        return False
    return bool(address.hostname) and (
        address.scheme == "https" or (address.scheme == "http" and address.hostname in LOOPBACK)
    )
