"""Secret fields of payloads, encrypted with AES-256-GCM under a key that is mounted into the panel.

The panel has no right to read Secrets: Kubernetes puts this one into its pod. A value is bound to queue and field, so
that a row's ciphertext, moved elsewhere in the database, does not open.
"""

import base64
import json
import secrets
from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from kuberpa.queueing import FieldProblem, QueueError, QueueErrorCode
from kuberpa.workqueue import Encryption
from kuberpa_panel.language import _

MARK: Final = "$kuberpa.dev/encrypted"
HIDDEN: Final = "•••"
KEY_MIN_BYTES: Final = 32
_NONCE: Final = 12

Change = Callable[[str, Any], Any]
NONE: Final[Mapping[str, str]] = MappingProxyType({})


class Vault:
    """Keys by the name of their file, read anew for each use because a mounted Secret may be rotated."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def seal(
        self, payload: dict[str, Any], encryption: Encryption | None, place: str, inherited: Mapping[str, str] = NONE
    ) -> dict[str, Any]:
        """The payload with its secret fields encrypted: the queue's, and what was secret where it comes from.

        `inherited` names keys by path. Raises QueueError for a missing key or a forged field.
        """
        if MARK in json.dumps(payload):
            raise QueueError(
                QueueErrorCode.INVALID,
                _("The item is not valid."),
                (FieldProblem(field="payload", message=_("must not contain the field %(mark)s", mark=MARK)),),
            )
        keys = dict(inherited)
        if encryption is not None:
            keys |= dict.fromkeys(encryption.fields, encryption.key)
        if not keys:
            return payload
        ciphers = {name: self._cipher(name) for name in set(keys.values())}

        def encrypt(path: str, value: Any) -> Any:
            nonce, name = secrets.token_bytes(_NONCE), keys[path]
            text = ciphers[name].encrypt(nonce, json.dumps(value).encode(), f"{place}/{path}".encode())
            return {MARK: f"{name}:{base64.b64encode(nonce + text).decode()}"}

        return _at(payload, tuple(keys), encrypt)

    def secrets_of(self, payload: dict[str, Any]) -> dict[str, str]:
        """Keys by the path of each encrypted value."""
        found: dict[str, str] = {}

        def note(path: str, value: Any) -> Any:
            found[path] = value[MARK].partition(":")[0]

        if self._has_secrets(payload):
            _sealed(payload, note)
        return found

    def open(self, payload: dict[str, Any], place: str) -> dict[str, Any]:
        """The payload in clear. Raises QueueError when a key is gone or a value was tampered with."""

        def decrypt(path: str, value: Any) -> Any:
            name, text = value[MARK].split(":", 1)
            raw = base64.b64decode(text)
            try:
                clear = self._cipher(name).decrypt(raw[:_NONCE], raw[_NONCE:], f"{place}/{path}".encode())
            except InvalidTag:
                raise QueueError(
                    QueueErrorCode.UNAVAILABLE,
                    _("payload.%(path)s cannot be decrypted: key %(name)s is another one now", path=path, name=name),
                ) from None
            return json.loads(clear)

        return _sealed(payload, decrypt) if self._has_secrets(payload) else payload

    def hide(self, payload: dict[str, Any], encryption: Encryption | None = None) -> dict[str, Any]:
        """The payload for people: secret fields are dots, also those that came before the queue had them encrypted."""
        shown: dict[str, Any] = _sealed(payload, _dots) if self._has_secrets(payload) else payload
        return shown if encryption is None else _at(shown, encryption.fields, _dots)

    @staticmethod
    def _has_secrets(payload: dict[str, Any]) -> bool:
        return MARK in repr(payload)

    def _cipher(self, name: str) -> AESGCM:
        path = None if self._folder is None else self._folder / name
        if path is None or not path.is_file():
            raise QueueError(
                QueueErrorCode.UNAVAILABLE,
                _(
                    "spec.encryption.key names %(name)s, which the Secret of queue keys "
                    "(kuberpa-queue-keys) does not have",
                    name=name,
                ),
            )
        raw = path.read_bytes()
        if len(raw) < KEY_MIN_BYTES:
            raise QueueError(
                QueueErrorCode.UNAVAILABLE,
                _(
                    "the queue key %(name)s has %(size)s bytes; use %(least)s random ones or more",
                    name=name,
                    size=len(raw),
                    least=KEY_MIN_BYTES,
                ),
            )
        return AESGCM(HKDF(SHA256(), 32, salt=None, info=b"kuberpa queue payload").derive(raw))


def _at(payload: dict[str, Any], fields: tuple[str, ...], change: Change) -> dict[str, Any]:
    """A copy with the values at these paths changed; a path that is not there is left out."""
    changed = deepcopy(payload)
    for path in fields:
        *steps, last = path.split(".")
        place: Any = changed
        for step in steps:
            place = place.get(step) if isinstance(place, dict) else None
        if isinstance(place, dict) and last in place and not _is_sealed(place[last]):
            place[last] = change(path, place[last])
    return changed


def _sealed(value: Any, change: Change, path: str = "") -> Any:
    """A copy with every encrypted value changed."""
    if _is_sealed(value):
        return change(path, value)
    if isinstance(value, dict):
        return {key: _sealed(each, change, f"{path}.{key}".lstrip(".")) for key, each in value.items()}
    return value


def _dots(_path: str, _value: Any) -> str:
    return HIDDEN


def _is_sealed(value: Any) -> bool:
    return isinstance(value, dict) and MARK in value
