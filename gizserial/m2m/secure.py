"""Cipher of the G2 registration and the random code of on-boarding (device-cloud.md §5).

AES-128, ECB, PKCS#7; the key is the 16 bytes of the product secret, the ciphertext travels as hex. The
package ``cryptography`` comes with the extra ``cloud`` and is imported when it is needed.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any, Final

from gizserial.errors import GizserialError

BLOCK: Final = 16
_SECRET: Final = re.compile(r"[0-9A-Fa-f]{32}")


class CipherError(GizserialError, ValueError):
    """A secret that is none, or a text that cannot be decrypted with it."""


def _aes(key: bytes) -> Any:
    try:
        from cryptography.hazmat.primitives.ciphers import Cipher
        from cryptography.hazmat.primitives.ciphers.algorithms import AES
        from cryptography.hazmat.primitives.ciphers.modes import ECB
    except ImportError as error:
        raise CipherError(
            "registration with a product secret (G2) needs the package cryptography;"
            " install it with: pip install 'gizserial[cloud]'"
        ) from error
    return Cipher(AES(key), ECB())  # noqa: S305 (ECB is what the protocol prescribes, §5)


def _key(product_secret: str) -> bytes:
    if not _SECRET.fullmatch(product_secret):
        raise CipherError(
            f"a product secret is 32 hexadecimal digits, this one has {len(product_secret)} characters"
        )
    return bytes.fromhex(product_secret)


def check_secret(product_secret: str) -> None:
    """Whether G2 can work at all with this secret.

    :raises CipherError: when the secret has another form, or ``cryptography`` is not installed.
    """
    _aes(_key(product_secret))


def encrypt_hex(product_secret: str, text: str) -> str:
    """A text as modules and cloud send it: AES, then lower-case hex.

    :raises CipherError: when the secret is not 32 hex digits.
    """
    plain = text.encode()
    fill = BLOCK - len(plain) % BLOCK
    encryptor = _aes(_key(product_secret)).encryptor()
    data: bytes = encryptor.update(plain + bytes([fill]) * fill) + encryptor.finalize()
    return data.hex()


def decrypt_hex(product_secret: str, hex_text: str) -> str:
    """The text behind hex of either case.

    :raises CipherError: when it is not hex, not whole blocks, or does not decrypt to a padded text.
    """
    key = _key(product_secret)
    try:
        data = bytes.fromhex(hex_text.strip())
    except ValueError as error:
        raise CipherError("the encrypted text is not hexadecimal") from error
    if not data or len(data) % BLOCK:
        raise CipherError(f"the encrypted text has {len(data)} bytes, which is not a multiple of {BLOCK}")
    decryptor = _aes(key).decryptor()
    plain: bytes = decryptor.update(data) + decryptor.finalize()
    fill = plain[-1]
    if not 1 <= fill <= BLOCK or plain[-fill:] != bytes([fill]) * fill:
        raise CipherError("the text does not decrypt: the other side uses another product secret")
    try:
        return plain[:-fill].decode()
    except UnicodeDecodeError as error:
        raise CipherError("the decrypted text is not UTF-8: the product secret may be wrong") from error


def random_code(product_key: str, ssid: str, password: str | None = None, sn: int = 0) -> str:
    """The code by which an app finds its device in the cloud after on-boarding (§5.4).

    :param password: Wi-Fi password; None when it is not known, which leaves ``sn`` out as well.
    :param sn: Number of the on-boarding; 0 for SoftAP and AirLink.
    :raises CipherError: when the product key has fewer than 16 characters.
    """
    key = product_key[:BLOCK].encode()
    if len(key) != BLOCK:
        raise CipherError("the product key is too short for a random code")
    text = ssid if password is None else f"{ssid}{password}{sn:08x}"
    digest = hashlib.md5(text.encode(), usedforsecurity=False).digest()
    encryptor = _aes(key).encryptor()
    block: bytes = encryptor.update(digest) + encryptor.finalize()
    return hashlib.md5(block, usedforsecurity=False).hexdigest()
