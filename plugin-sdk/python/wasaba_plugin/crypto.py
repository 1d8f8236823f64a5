"""What log-ins compute from a secret. The agent does it, since it has the secret's text, and natively."""

from __future__ import annotations

from typing import NamedTuple

from . import _wire
from ._errors import passed_on
from ._secret import Secret, handle

_crypto = _wire.interface("crypto")


class ScramProof(NamedTuple):
    """What both sides of SCRAM send to prove that they know the password."""

    #: For `p=` of the client's last message, before base64.
    client_proof: bytes
    #: What must be in `v=` of the server's last message, before base64.
    server_signature: bytes


def scram_sha256(password: Secret, salt: bytes, iterations: int, auth_message: str) -> ScramProof:
    """SCRAM-SHA-256: `auth_message` is what both sides sign. The agent caches the last key."""
    with passed_on():
        proof = _crypto.scram_sha256(handle(password), salt, iterations, auth_message)
    return ScramProof(bytes(proof.client_proof), bytes(proof.server_signature))


def postgres_md5(password: Secret, user: str, salt: bytes) -> str:
    """PostgreSQL's answer to a request for an MD5 password."""
    return str(_crypto.postgres_md5(handle(password), user, salt))
