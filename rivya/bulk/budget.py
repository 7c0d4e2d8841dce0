"""The credits that a bulk job may still spend. Used in the engine's loop."""

from __future__ import annotations

from ..errors import Charged, ConfigurationError, RivyaError
from ..orders.order import Order


class Budget:
    """Counts each new order once.

    Args:
        most: credits that may be spent; None: any number.
    """

    def __init__(self, most: int | None = None) -> None:
        self.most = most
        self.spent = 0
        self._prices: dict[str, int] = {}

    def reserve(self, order: Order) -> None:
        """Count an order about to be bought.

        Raises:
            ConfigurationError: it would exceed the limit; it was not sent.
        """
        price = order.identity.params.credits
        if self.most is None or order.fingerprint in self._prices:
            return
        if self.spent + price > self.most:
            raise ConfigurationError(
                f"The limit of {self.most} credits is reached, so this picture was not ordered.",
                hint="Raise the limit and run the same again: what has been bought costs nothing more.",
                code="over_credit_cap",
                charged=Charged.NO,
            )
        self._prices[order.fingerprint] = price
        self.spent += price

    def give_back(self, fingerprint: str, error: RivyaError) -> None:
        """Take an order off the count if its error proves that it cost nothing."""
        if error.charged is Charged.NO and fingerprint in self._prices:
            self.spent -= self._prices.pop(fingerprint)
