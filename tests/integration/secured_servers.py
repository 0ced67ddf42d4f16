"""Servers as production runs them: TLS with an authority of their own, ACL users, SASL.

Every user's password is its name and "-secret"; `root` may do everything and is the tests' own.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import redis
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)

from tests.integration.apache_kafka import ApacheKafka
from tests.integration.servers import NO_RETRY, RedisServer, ServerFailed

ROOT_USER = "root"


def password(user: str) -> str:
    """The user's password."""
    return f"{user}-secret"


class Authority:
    """A certificate authority in a folder, and certificates that it signed: `NAME.crt`, `NAME.key`."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.ca_file = folder / f"{name}.crt"
        self._key = folder / f"{name}.key"
        new = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
        _openssl(*new, "-subj", f"/CN={name}", "-keyout", str(self._key), "-out", str(self.ca_file))

    def issue(self, name: str, addresses: str = "IP:127.0.0.1,DNS:localhost") -> tuple[Path, Path]:
        """A certificate for these addresses, which clients and servers can use, and its key: (certificate, key)."""
        certificate, key, request = (self.folder / f"{name}.{end}" for end in ("crt", "key", "csr"))
        new = ["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        _openssl(*new, "-subj", f"/CN={name}", "-keyout", str(key), "-out", str(request))
        names = self.folder / f"{name}.ext"
        names.write_text(f"subjectAltName={addresses}\nextendedKeyUsage=serverAuth,clientAuth\n")
        signing = ["-CA", str(self.ca_file), "-CAkey", str(self._key), "-CAcreateserial", "-days", "2"]
        _openssl("x509", "-req", "-in", str(request), *signing, "-extfile", str(names), "-out", str(certificate))
        key.chmod(0o600)
        return certificate, key


def _openssl(*arguments: str) -> None:
    made = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        raise ServerFailed(f"openssl {arguments[0]} failed:\n{made.stderr}")


class SecuredRedis(RedisServer):
    """A Redis that speaks only TLS and knows only the users of an ACL file: nobody without a name.

    acl: the lines of the file, of users without passwords. server: (certificate, key). asks_clients: whether a client
    must have a certificate of the authority too.
    """

    name = "secured redis-server"

    def __init__(
        self,
        folder: Path,
        authority: Authority,
        acl: Sequence[str] = (),
        *,
        server: tuple[Path, Path] | None = None,
        asks_clients: bool = False,
    ) -> None:
        super().__init__(folder)
        self.tls = True
        self.authority = authority
        self.ca_file = authority.ca_file
        self._certificate, self._key = server or authority.issue("redis")
        self._own = authority.issue("root")
        self._asks_clients = asks_clients
        users = [f"{line} >{password(line.split()[1])}" for line in acl]
        lines = ["user default off", f"user {ROOT_USER} on >{password(ROOT_USER)} ~* &* +@all", *users]
        (folder / "users.acl").write_text("\n".join(lines) + "\n")

    def command(self) -> Sequence[str]:
        options = {
            "port": "0",
            "tls-port": str(self.port),
            "tls-cert-file": str(self._certificate),
            "tls-key-file": str(self._key),
            "tls-ca-cert-file": str(self.ca_file),
            "tls-auth-clients": "yes" if self._asks_clients else "no",
            "aclfile": str(self.folder / "users.acl"),
        }
        self.tls = False
        plain = [*super().command()]
        self.tls = True
        return [*plain, *(word for name, value in options.items() for word in (f"--{name}", value))]

    def client(self) -> redis.Redis:
        """A new client of `root`, which does not retry."""
        return redis.Redis(
            host="127.0.0.1",
            port=self.port,
            socket_timeout=5,
            retry=NO_RETRY,
            username=ROOT_USER,
            password=password(ROOT_USER),
            ssl=True,
            ssl_ca_certs=str(self.ca_file),
            ssl_certfile=str(self._own[0]),
            ssl_keyfile=str(self._own[1]),
        )


class SecuredKafka(ApacheKafka):
    """An Apache Kafka that speaks only TLS, knows its users by SCRAM, and lets each do only what an ACL allows.

    asks_clients: whether a client must have a certificate of the authority too.
    """

    name = "secured Apache Kafka"

    def __init__(self, folder: Path, authority: Authority, users: Sequence[str], *, asks_clients: bool = False) -> None:
        self.authority = authority
        self._users = [ROOT_USER, *users]
        self._own = authority.issue("kafka")
        self._asks_clients = asks_clients
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "keystore.pem").write_text("".join(path.read_text() for path in reversed(self._own)))
        self._store = folder / "keystore.pem"
        super().__init__(folder)

    def more_properties(self, controller: int) -> str:
        login = f'required username="{ROOT_USER}" password="{password(ROOT_USER)}";'
        module = "org.apache.kafka.common.security.scram.ScramLoginModule"
        return f"""\
listeners=SECURE://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=SECURE://127.0.0.1:{self.port}
listener.security.protocol.map=SECURE:SASL_SSL,CONTROLLER:PLAINTEXT
inter.broker.listener.name=SECURE
sasl.enabled.mechanisms=SCRAM-SHA-512
sasl.mechanism.inter.broker.protocol=SCRAM-SHA-512
listener.name.secure.scram-sha-512.sasl.jaas.config={module} {login}
ssl.keystore.type=PEM
ssl.keystore.location={self._store}
ssl.truststore.type=PEM
ssl.truststore.location={self.authority.ca_file}
listener.name.secure.ssl.client.auth={"required" if self._asks_clients else "none"}
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:{ROOT_USER};User:ANONYMOUS
"""

    def more_format_options(self) -> list[str]:
        users = [f"SCRAM-SHA-512=[name={user},password={password(user)}]" for user in self._users]
        return [option for user in users for option in ("--add-scram", user)]

    def client_properties(self, user: str = ROOT_USER) -> dict[str, Any]:
        certificate, key = self._own
        return {
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": user,
            "sasl.password": password(user),
            "ssl.ca.location": str(self.authority.ca_file),
            "ssl.certificate.location": str(certificate),
            "ssl.key.location": str(key),
        }

    def allow(self, user: str, resource: str, name: str, operation: str) -> None:
        """Let the user do one thing with one topic or group, or with the cluster."""
        self.allow_all({user: [(resource, name, operation)]})

    def allow_all(self, rights: dict[str, list[tuple[str, str, str]]]) -> None:
        """Let each user do these things: (resource, name, operation)."""
        bindings = [
            AclBinding(
                ResourceType.BROKER if resource == "cluster" else ResourceType[resource.upper()],
                name,
                ResourcePatternType.LITERAL,
                f"User:{user}",
                "*",
                AclOperation[operation.upper()],
                AclPermissionType.ALLOW,
            )
            for user, allowed in rights.items()
            for resource, name, operation in allowed
        ]
        admin = self.admin()
        for future in admin.create_acls(bindings, request_timeout=20).values():
            future.result(timeout=20)
