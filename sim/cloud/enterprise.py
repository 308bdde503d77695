"""Tokens of the Enterprise API: one for each product (open-api.md §19)."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from typing import Final

from sim.cloud.accounts import EXPIRED_KEPT, TOKEN_TIME, Token, hash_token
from sim.cloud.api_errors import EnterpriseError
from sim.cloud.database import Database
from sim.cloud.products import CloudProduct, Products

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS enterprise_token (
    hash TEXT PRIMARY KEY,
    product_key TEXT NOT NULL,
    expires INTEGER NOT NULL
) WITHOUT ROWID;
"""


class Enterprise:
    """Who may use the Enterprise API of which product.

    :param now: Unix seconds.
    """

    def __init__(self, database: Database, products: Products, *, now: Callable[[], float]) -> None:
        database.create(_TABLES)
        self._database, self._products, self._now = database, products, now

    def product(self, product_key: str) -> CloudProduct:
        """The product of a path (:raises EnterpriseError: 5015, there is none)."""
        product = self._products.get(product_key)
        if product is None:
            raise EnterpriseError(5015)
        return product

    def issue_token(
        self, product: CloudProduct, enterprise_id: str, enterprise_secret: str, product_secret: str
    ) -> Token:
        """A token for one product.

        :raises EnterpriseError: 5003, 5004 or 5005, one of the three is wrong.
        """
        known = product.enterprise
        if known is None or known.id != enterprise_id:
            raise EnterpriseError(5003)
        if not _same(known.secret, enterprise_secret):
            raise EnterpriseError(5004)
        if product.secret is None or not _same(product.secret, product_secret):
            raise EnterpriseError(5005)
        token = Token(secrets.token_hex(16), int(self._now() + TOKEN_TIME))
        with self._database.transaction() as db:
            db.execute("DELETE FROM enterprise_token WHERE expires < ?", (int(self._now() - EXPIRED_KEPT),))
            db.execute(
                "INSERT INTO enterprise_token VALUES (?, ?, ?)",
                (hash_token(token.token), product.product_key, token.expire_at),
            )
        return token

    def check_token(self, header: str | None, product: CloudProduct) -> None:
        """Whether ``Authorization: token <token>`` is good for this product.

        :raises EnterpriseError: 5009 it is none, 5010 it is another product's, 5011 it has expired.
        """
        word, _, token = (header or "").strip().partition(" ")
        row = self._database.one(
            "SELECT product_key, expires FROM enterprise_token WHERE hash = ?", (hash_token(token.strip()),)
        )
        if word.lower() != "token" or row is None:
            raise EnterpriseError(5009)
        if row[0] != product.product_key:
            raise EnterpriseError(5010)
        if row[1] <= self._now():
            raise EnterpriseError(5011)


def _same(wanted: str, given: str) -> bool:
    return hmac.compare_digest(wanted.encode(), given.encode("utf-8", "surrogatepass"))
