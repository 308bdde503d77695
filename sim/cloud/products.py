"""The products that a cloud serves, and what a registration needs (device-cloud.md §4.7, §5)."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator
from typing import Final

from gizserial.errors import ValueOutOfRange
from gizserial.m2m.http import ErrorAnswer
from gizserial.m2m.http_cloud import ErrorCode
from gizserial.m2m.secure import check_secret
from gizserial.product import Product

_PRODUCT_KEY: Final = re.compile(r"[0-9A-Za-z_.-]{1,64}")
"""Real ones are 32 hex digits; clients have others compiled in (open-api.md §3)."""


_HEX: Final = re.compile(r"[0-9A-Fa-f]+")


@dataclasses.dataclass(frozen=True, slots=True)
class Credential:
    """An id and its secret."""

    id: str
    secret: str = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CloudProduct:
    """A product as a cloud knows it.

    :raises ValueOutOfRange: when the product key is no word.
    :raises CipherError: when the secret is not 32 hex digits, or G2 cannot work here at all.
    """

    product_key: str
    secret: str | None = dataclasses.field(default=None, repr=False)
    """Product secret; its modules may register with G2."""
    make_secret: bool = False
    """It has none so far: one is made up and kept (:mod:`sim.cloud.setup`)."""
    encrypted: bool = False
    """Its plain registration is refused, as the real service does for such products."""
    product: Product | None = None
    """Its data points, when a definition is there."""
    shared: bool = False
    """Its first user becomes owner, and others come by his sharing only (open-api.md §7.1)."""
    credentials: tuple[Credential, ...] = ()
    """Who may log in at SNoti for it (snoti.md §3)."""
    enterprise: Credential | None = None
    """Enterprise id and secret that it belongs to (open-api.md §19)."""

    @property
    def name(self) -> str:
        """What devices of it are called."""
        return self.product.name if self.product is not None else self.product_key[:8]

    def __post_init__(self) -> None:
        if not _PRODUCT_KEY.fullmatch(self.product_key):
            raise ValueOutOfRange("product_key", self.product_key, "32 hexadecimal digits, or another word")
        if _HEX.fullmatch(self.product_key):
            object.__setattr__(self, "product_key", self.product_key.lower())
        if self.secret is not None:
            check_secret(self.secret)


class Products:
    """Which modules may register.

    :param strict: Only configured products; otherwise any product key may register with G1.
    :param require_secure: Every product with a secret counts as encrypted.
    :raises ValueOutOfRange: when two products have one key.
    """

    def __init__(
        self, products: Iterable[CloudProduct] = (), *, strict: bool = False, require_secure: bool = False
    ) -> None:
        self.strict, self.require_secure = strict, require_secure
        self._products: dict[str, CloudProduct] = {}
        for product in products:
            self.add(product)

    def __iter__(self) -> Iterator[CloudProduct]:
        return iter(self._products.values())

    def add(self, product: CloudProduct) -> None:
        """Serve one more product.

        :raises ValueOutOfRange: when there is one with its key.
        """
        if product.product_key in self._products:
            raise ValueOutOfRange("product_key", product.product_key, "a key that no other product has")
        self._products[product.product_key] = product

    def get(self, product_key: str) -> CloudProduct | None:
        """The configured product with this key; hexadecimal ones in either case."""
        return self._products.get(product_key) or self._products.get(product_key.lower())

    def remove(self, product_key: str) -> bool:
        """Serve a product no more; whether it was served."""
        known = self.get(product_key)
        return known is not None and self._products.pop(known.product_key, None) is not None

    def refusal(self, product_key: str) -> ErrorAnswer | None:
        """Why a module of this product may not register with G1; None when it may."""
        product = self.get(product_key)
        if product is None:
            return ErrorAnswer(ErrorCode.PRODUCT_KEY_INVALID, "product_key invalid") if self.strict else None
        if product.encrypted or (self.require_secure and product.secret is not None):
            return ErrorAnswer(
                ErrorCode.PLAIN_NOT_SUPPORTED, "device encrypt enabled, does not support this api"
            )
        return None

    def secret(self, product_key: str) -> str | ErrorAnswer:
        """The secret that a G2 request of this product is encrypted with."""
        product = self.get(product_key)
        if product is None:
            return ErrorAnswer(ErrorCode.PRODUCT_KEY_INVALID, "product_key invalid")
        if product.secret is None:
            return ErrorAnswer(
                ErrorCode.PRODUCT_KEY_INVALID, "product_key invalid: no product secret is configured for it"
            )
        return product.secret
