"""Time stamps of RFC 3161: an authority signs that a checkpoint's text existed at a time. Asked for over HTTP, and
checked against the authorities' root certificates by whoever verifies anchors.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import rfc3161_client
from cryptography import x509
from cryptography.x509 import Certificate
from rfc3161_client import HashAlgorithm, PKIStatus, TimestampRequestBuilder, VerifierBuilder

from console.anchoring.destinations import Attachment, post, word
from console.anchoring.notary import Signed
from core.errors import BadInput, Corrupt, Unavailable
from core.times import to_epoch_ms


class Authority:
    """A time stamping authority over HTTP."""

    def __init__(self, name: str, url: str) -> None:
        """name: a part of its files' names."""
        self.name = url
        self._word = word(name)

    def deliver(self, signed: Signed, states: Sequence[bytes]) -> Attachment | None:
        """See Destination. The answer's certificates are checked by `sentinel verify`, not here."""
        text = signed.checkpoint.text.encode()
        request = (
            TimestampRequestBuilder(data=text)
            .hash_algorithm(HashAlgorithm.SHA256)
            .cert_request(cert_request=True)
            .build()
        )
        answer = post(self.name, request.as_bytes(), "application/timestamp-query")
        if answer.status_code != 200:
            raise Unavailable(f"{self.name} answers {answer.status_code}")
        try:
            response = rfc3161_client.decode_timestamp_response(answer.content)
            status = PKIStatus(response.status)
        except ValueError as error:
            raise Unavailable(f"{self.name}: the answer is no time stamp: {error}") from None
        if status not in (PKIStatus.GRANTED, PKIStatus.GRANTED_WITH_MODS):
            raise Unavailable(f"{self.name} refuses: {status.name.lower()} {' '.join(response.status_string)}")
        info = response.tst_info
        if info.message_imprint.message != request.message_imprint.message or info.nonce != request.nonce:
            raise Unavailable(f"{self.name} stamped something else")
        return Attachment(f"{self._word}.tsr", answer.content)


def read_roots(path: Path) -> list[Certificate]:
    """The certificates of a PEM file. Raises BadInput."""
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except OSError as error:
        raise BadInput(f"can't read {path}: {error.strerror}") from None
    except ValueError:
        raise BadInput(f"{path} holds no certificates in PEM") from None


def stamped_at(content: bytes, text: str, roots: Sequence[Certificate]) -> int:
    """When the text was stamped, epoch ms. Raises Corrupt unless an authority under one of the roots stamped it."""
    builder = VerifierBuilder()
    for root in dict.fromkeys(roots):
        builder = builder.add_root_certificate(root)
    try:
        response = rfc3161_client.decode_timestamp_response(content)
        builder.build().verify_message(response, text.encode())
    except (ValueError, rfc3161_client.VerificationError) as error:
        raise Corrupt(f"the time stamp does not verify: {' '.join(str(error).split())}") from None
    return to_epoch_ms(response.tst_info.gen_time)
