"""Orders, timeouts and outcomes of a run: one set of rules for nodes, command line and programs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from . import kontext, scalars
from .engine.jobs import Ticket
from .errors import Charged, ConfigurationError, RivyaError, RivyaTimeoutError
from .kontext import Identity, KontextParams
from .orders.order import Finished, Order, Reference


@dataclass(frozen=True)
class Wanted:
    """The requested pictures: ``variations`` (1 to 16) of each reference, or of the prompt alone.

    Attributes:
        image: of a bulk job: a path, the bytes of a file, or a uint8 array (height, width, 1, 3 or 4); None: text to
            image, or an uploaded reference.
    """

    image: Any = field(repr=False)
    prompt: str
    params: KontextParams
    seed: int = 0
    variations: int = 1
    client_request_id: str = ""

    def checked(self) -> Wanted:
        """Return Python's own types; raises `ValidationError` that names the first invalid value."""
        kontext.validate_prompt(self.prompt)
        kontext.validate_client_request_id(self.client_request_id)
        return replace(
            self,
            params=self.params.validate(),
            seed=scalars.whole("seed", self.seed, 0, kontext.MAX_SEED),
            variations=scalars.whole("variations", self.variations, 1, kontext.MAX_VARIATIONS),
        )

    def order(self, variation: int, reference: Reference | None) -> Order:
        known = (reference.identity, reference.size) if reference is not None else (None, None)
        identity = Identity(self.prompt, self.params, self.seed, variation, *known)
        return Order(identity, reference, self.client_request_id)

    def orders(self, references: Iterable[Reference] | None) -> list[Order]:
        """Return all orders, reference-major; None: text to image."""
        each = [None] if references is None else references
        return [self.order(variation, one) for one in each for variation in range(self.variations)]


def prices(orders: Iterable[Order]) -> dict[str, int]:
    """Return credits by fingerprint: equal orders are bought once."""
    return {order.fingerprint: order.identity.params.credits for order in orders}


def stay_under_the_cap(prices: Mapping[str, int], cap: int | None) -> None:
    """Refuse a run above ``max_credits_per_run`` before any request.

    Args:
        prices: by fingerprint, of the orders that would cost now.

    Raises:
        ConfigurationError: ``over_credit_cap``.
    """
    total = sum(prices.values())
    if cap is not None and total > cap:
        raise ConfigurationError(
            f"This run would spend {total} credits; max_credits_per_run allows {cap}.",
            hint="Order less at once, or raise the cap in config.json or RIVYA_MAX_CREDITS_PER_RUN.",
            code="over_credit_cap",
            charged=Charged.NO,
        )


def is_late(ticket: Ticket, timeout_s: float, *, began: float, now: float) -> bool:
    """Whether an order is unfinished ``timeout_s`` after the later of its acceptance and ``began``.

    Times are `time.monotonic`, in seconds.
    """
    since = ticket.progress.since
    return since is not None and not ticket.done.done() and now - max(since, began) > timeout_s


def out_of_time(ticket: Ticket, timeout_s: float) -> RivyaTimeoutError:
    """The error of an accepted order after its timeout; the task continues."""
    progress = ticket.progress
    return RivyaTimeoutError(
        f"The picture was not ready within {timeout_s:g} s.",
        hint="The task goes on at Rivya: running again resumes it and costs nothing more.",
        task_id=progress.task_id,
        charged=Charged.YES,
        credits=progress.credits if progress.source == "new" else None,
    )


def outcome(ticket: Ticket) -> Finished | RivyaError:
    """Return an order's result or error. Raises other exceptions: they are bugs."""
    error = ticket.done.exception()
    return error if isinstance(error, RivyaError) else ticket.done.result()
