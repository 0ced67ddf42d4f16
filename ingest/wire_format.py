"""Messages in the wire format of a schema registry: a zero byte, the schema's ID (4 bytes, big-endian), the payload.

With the setting `schema_registry`, such a message is turned into the JSON that the edge decodes, before anything else
looks at it: a payload whose schema is of type JSON is that already; one of type AVRO is read by its writer's schema
(`ingest.avro`). So the log holds what it always holds, and no replay ever asks a registry. Messages without the zero
byte are JSON as ever.

    schema known                     JSON: checked by the edge like any other message
    the registry has no such ID      a reject, `unknown_schema`; only if it says so itself, not a page that is not there
    not readable by its schema       a reject, `not_by_schema`; also if the schema has references, or is of another type
    the registry does not answer     `Unavailable`: the messages wait (`ingest.parking`, `schema_unavailable`)

A schema never changes under its ID, so each is asked for once; an ID that is not there is asked for again after some
seconds, since it may be there then. The registry has three seconds for an answer of up to a megabyte. Of a message that
can't be read the log keeps its first five bytes: nobody could tell whether there is a card number in the others.

Cost: none without the setting; with it, see `benchmarks/wire_format.py`.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from core.errors import UNDECODABLE, BadInput, Unavailable
from core.private_files import check_tls_files, read_secret
from core.settings import Settings
from core.validation import VALUE_BYTES_MAX
from ingest import avro

MAGIC = 0
HEAD_BYTES = 5
TIMEOUT_S = 2.0
"""For each wait for the network."""
ANSWER_S = 3.0
"""For a whole answer: whoever sends it byte by byte must not hold up a worker."""
ANSWER_BYTES_MAX = 1024 * 1024
_PIECE_BYTES = 65_536
AGAIN_S = 3.0
"""After the registry did not answer, nobody asks it again for so long; so with an ID that it does not have."""
ASKED_S, ASKED_WITHIN_S = 3.0, 15.0
"""How much of so long a worker may spend on questions: else unknown IDs would hold up its other partitions."""
SCHEMAS_MAX = 256
_NO_SCHEMA = 40403
"""What a registry says of an ID that it does not have; a wrong address in it gets another 404."""
Read = Callable[[bytes], bytes]
_encode = msgspec.json.Encoder(decimal_format="number").encode


class _Answer(msgspec.Struct):
    schema: str
    schemaType: str | None = None
    references: list[Any] | None = None


class _Refusal(msgspec.Struct):
    error_code: int


class WireFormat:
    """Knows the schemas of one registry. For one thread."""

    def __init__(self, url: str, login: tuple[str, str] | None, ca_file: str = "") -> None:
        """ca_file: certificates of the authorities to trust, "" for the usual ones."""
        import requests  # it takes a while, and few need it
        from requests.auth import HTTPBasicAuth

        self._url = url.rstrip("/")
        self._session = requests.Session()
        if login is not None:
            self._session.auth = HTTPBasicAuth(login[0].encode(), login[1].encode())  # as UTF-8
        self._session.trust_env = False  # no login from a .netrc, no proxy
        self._session.verify = ca_file or True
        accept = "application/vnd.schemaregistry.v1+json, application/json"
        # Asked so rarely that a connection that is kept would be cut by something on the way, without a word.
        self._session.headers.update({"accept": accept, "accept-encoding": "identity", "connection": "close"})
        self._known: dict[int, Read | BadInput] = {}
        self._in_vain: dict[int | None, tuple[float, BadInput | Unavailable]] = {}  # when, and why; None: for any ID
        self._asked: deque[tuple[float, float]] = deque()  # when a question ended, and how long it took
        self._asking: threading.Thread | None = None

    @classmethod
    def of(cls, settings: Settings) -> WireFormat | None:
        """That of the settings; None without a registry. Raises BadInput."""
        if not settings.schema_registry:
            return None
        name, file = settings.schema_registry_username, settings.schema_registry_password_file
        login = (name, read_secret(Path(file), "schema_registry_password_file") if file else "") if name else None
        if settings.schema_registry_ca_file:
            check_tls_files("schema_registry", settings.schema_registry_ca_file, "", "")
        return cls(settings.schema_registry, login, settings.schema_registry_ca_file)

    def read(self, value: bytes | None) -> tuple[bytes | None, BadInput | None]:
        """The message's JSON; or, if it can't be read, its head and why. Raises Unavailable."""
        if not value or value[0] != MAGIC:
            return value, None
        head = value[:HEAD_BYTES]
        if len(value) > VALUE_BYTES_MAX:
            return head, BadInput(f"the message is larger than {VALUE_BYTES_MAX} bytes", reason="too_large")
        if len(value) < HEAD_BYTES:
            return head, BadInput("the message ends within the schema's ID", reason="not_by_schema")
        reader = self._reader(int.from_bytes(value[1:HEAD_BYTES], "big"))
        if isinstance(reader, BadInput):
            return head, reader
        try:
            return reader(value[HEAD_BYTES:]), None
        except BadInput as error:
            return head, error

    def _reader(self, number: int) -> Read | BadInput:
        """What reads payloads of a schema, or why none can be read. Raises Unavailable."""
        known = self._known.get(number)
        if known is not None:
            return known
        began = time.monotonic()
        for key in (None, number):
            at, why = self._in_vain.get(key, (-AGAIN_S, None))
            if why is not None and began - at < AGAIN_S:
                if isinstance(why, Unavailable):
                    raise Unavailable(str(why))
                return why
        while self._asked and began - self._asked[0][0] > ASKED_WITHIN_S:
            self._asked.popleft()
        if sum(seconds for _, seconds in self._asked) > ASKED_S:
            raise self._unavailable("it was asked for too many schemas")
        try:
            found = self._judged(number, *self._ask(number))
        finally:
            self._asked.append((time.monotonic(), time.monotonic() - began))
        if isinstance(found, BadInput) and found.reason == "unknown_schema":
            self._remember(number, found)  # it may be there soon
            return found
        if len(self._known) >= SCHEMAS_MAX:
            del self._known[next(iter(self._known))]
        self._known[number] = found
        return found

    def _remember(self, number: int | None, why: BadInput | Unavailable) -> None:
        if len(self._in_vain) >= SCHEMAS_MAX:
            self._in_vain.clear()
        self._in_vain[number] = (time.monotonic(), why)

    def _judged(self, number: int, status: int, content: bytes | None) -> Read | BadInput:
        if content is None and status == 200:
            return BadInput(f"schema {number} is larger than {ANSWER_BYTES_MAX} bytes", reason="not_by_schema")
        if status == 404 and _error_code(content or b"") == _NO_SCHEMA:
            return BadInput(f"the schema registry has no schema {number}", reason="unknown_schema")
        if status != 200:
            raise self._unavailable(f"HTTP {status}", number)
        try:
            answer = msgspec.json.decode(content or b"", type=_Answer)
        except UNDECODABLE:
            raise self._unavailable("its answer is not a schema registry's", number) from None
        return _reader_of(number, answer)

    def _ask(self, number: int) -> tuple[int, bytes | None]:
        """The status and content of the registry's answer, which has ANSWER_S; None for a content that is too large."""
        if self._asking is not None and self._asking.is_alive():
            raise self._unavailable("an earlier answer is not complete")
        said: list[tuple[int, bytes | None] | str] = []

        def ask() -> None:
            try:
                said.append(self._get(f"{self._url}/schemas/ids/{number}"))
            except Exception as error:  # noqa: BLE001 - whatever the network or the library does, there is no answer
                said.append(type(error).__name__)

        self._asking = threading.Thread(target=ask, name="schema-registry", daemon=True)
        self._asking.start()
        self._asking.join(ANSWER_S)
        if not said or isinstance(said[0], str):
            raise self._unavailable(str(said[0]) if said else "too slow")
        return said[0]

    def _get(self, url: str) -> tuple[int, bytes | None]:
        deadline, content = time.monotonic() + ANSWER_S, bytearray()
        with self._session.get(url, timeout=TIMEOUT_S, allow_redirects=False, stream=True) as answer:
            while piece := answer.raw.read1(_PIECE_BYTES, decode_content=False):
                content += piece
                if time.monotonic() > deadline:
                    raise TimeoutError
                if len(content) > ANSWER_BYTES_MAX:
                    return answer.status_code, None
            return answer.status_code, bytes(content)

    def _unavailable(self, why: str, number: int | None = None) -> Unavailable:
        """number: the ID that alone is concerned."""
        found = Unavailable(
            f"the schema registry at {self._url} does not answer ({why}): messages that name its schemas wait"
        )
        self._remember(number, found)
        return found


def _error_code(content: bytes) -> int:
    """What a registry says beside the status; 0 if it is not a registry that says it."""
    try:
        return msgspec.json.decode(content, type=_Refusal).error_code
    except UNDECODABLE:
        return 0


def _reader_of(number: int, answer: _Answer) -> Read | BadInput:
    if answer.references:
        return BadInput(f"schema {number} refers to others, which is not supported", reason="not_by_schema")
    kind = answer.schemaType or "AVRO"
    if kind == "JSON":
        return bytes
    if kind != "AVRO":
        return BadInput(f"schema {number} is of type {kind[:64]}, not JSON or AVRO", reason="not_by_schema")
    try:
        read = avro.reader(answer.schema)
    except avro.NotSupported as error:
        return BadInput(f"schema {number} is not supported: {error}", reason="not_by_schema")
    except Exception as error:  # noqa: BLE001 - a schema of others must not end a worker, whatever we have overlooked
        return BadInput(f"schema {number} is not readable ({type(error).__name__})", reason="not_by_schema")

    def to_json(payload: bytes) -> bytes:
        try:
            content = _encode(read(payload))
        except avro.Malformed as error:
            raise BadInput(f"not a record of schema {number}: {error}", reason=error.reason) from None
        except Exception as error:  # noqa: BLE001 - nor may a message
            said = f"not readable by schema {number} ({type(error).__name__})"
            raise BadInput(said, reason="not_by_schema") from None
        if len(content) > VALUE_BYTES_MAX:
            raise BadInput(f"as JSON, the record is larger than {VALUE_BYTES_MAX} bytes", reason="too_large")
        return content

    return to_json
