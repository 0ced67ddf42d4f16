"""Files and folders that nobody else may change or read: secrets, settings, compiled code. Like `core.files`, it does
I/O; domain modules do not.

Owns one rule each for a file that holds a secret, for a settings file, and for a folder from which code is loaded.
"""

from __future__ import annotations

import grp
import os
import pwd
import ssl
import stat
from functools import cache
from pathlib import Path

from core.errors import BadInput

SECRET_MODES = 0o027
"""Permissions that a file with a secret must not give: read or write to everybody, write to its group. Its group may
read: container platforms give secrets to their processes by group.
"""
SECRET_BYTES_MAX = 65_536


def read_secret(path: Path, setting: str) -> str:
    """The secret in a file, without the white space around it. Raises BadInput, which never repeats the content, if it
    can't be read, is empty, or if others may read or change it. setting: the one that names the file.
    """
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            content = file.read(SECRET_BYTES_MAX + 1)
    except OSError as error:
        raise BadInput(f"{setting} {path} can't be read: {error.strerror}") from None
    if mode & SECRET_MODES:
        raise BadInput(f"{setting} {path} may be read or changed by others (mode {mode:o}): run chmod 600 {path}")
    try:
        found = content.decode("utf-8").strip()
    except UnicodeDecodeError:
        raise BadInput(f"{setting} {path} is not UTF-8") from None
    if not found or len(content) > SECRET_BYTES_MAX:
        raise BadInput(f"{setting} {path} is {'too large for a secret' if found else 'empty'}")
    return found


def check_readable(path: Path, setting: str, *, secret: bool = False) -> None:
    """Raise BadInput, naming the setting, if the file can't be read, or (secret) if others may read or change it."""
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            file.read(1)
    except OSError as error:
        raise BadInput(f"{setting} {path} can't be read: {error.strerror}") from None
    if secret and mode & SECRET_MODES:
        raise BadInput(f"{setting} {path} may be read or changed by others (mode {mode:o}): run chmod 600 {path}")


def check_tls_files(server: str, ca: str, certificate: str, key: str) -> None:
    """Raise BadInput, naming the setting, if one of a server's TLS files can't be used. server: how their settings
    begin, as in redis_ca_file; "" for a file that is not set.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if ca:
        check_readable(Path(ca), f"{server}_ca_file")
        try:
            context.load_verify_locations(ca)
        except (ssl.SSLError, ValueError):
            raise BadInput(f"{server}_ca_file {ca} holds no certificates in PEM form") from None
    if certificate:
        check_readable(Path(certificate), f"{server}_certificate_file")
        check_readable(Path(key), f"{server}_key_file", secret=True)
        try:
            context.load_cert_chain(certificate, key, password=_no_password)
        except (ssl.SSLError, ValueError) as error:
            said = getattr(error, "reason", None) or error
            raise BadInput(
                f"{server}_certificate_file {certificate} and {server}_key_file {key} are not a certificate and its"
                f" unencrypted key in PEM form ({said})"
            ) from None


def _no_password() -> str:
    """Without it, OpenSSL would ask for an encrypted key's password at the terminal."""
    raise ValueError("the key is encrypted")


def may_be_changed_by_others(folder: Path) -> str:
    """Why somebody other than this user and root could put files into the folder, or replace it; "" if nobody can.

    A parent may be writable by everybody if it is sticky, as /tmp is: then only owners replace what is theirs. The
    group that a user alone is in, as many systems make one for each, is the user.
    """
    mine = (0, os.geteuid())
    real = folder.resolve()
    for place, each in enumerate((real, *real.parents)):
        try:
            found = each.stat()
        except OSError as error:
            return f"{each}: {error.strerror}"
        if found.st_uid not in mine:
            return f"{each} belongs to user {found.st_uid}"
        sticky = place > 0 and found.st_mode & stat.S_ISVTX
        others = 0o002 if _is_own_group(found.st_gid) else 0o022
        if found.st_mode & others and not sticky:
            return f"{each} may be written by others (mode {stat.S_IMODE(found.st_mode):o})"
    return ""


@cache
def _is_own_group(gid: int) -> bool:
    """Whether this user is the group's only member."""
    try:
        user, group = pwd.getpwuid(os.geteuid()), grp.getgrgid(gid)
    except KeyError:
        return False
    return gid == user.pw_gid and group.gr_name == user.pw_name and set(group.gr_mem) <= {user.pw_name}
