"""All exceptions, as one tree.

Each error tells a person what happened, whether it cost credits, what to do and which identifiers to quote to
support. The service's ``error.code`` is the contract (Rivya Public API v1, "Errors and limits"). It declares new
codes a compatible change: unknown ones fall back on the HTTP status.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from enum import Enum
from typing import Any, TypeVar, cast

E = TypeVar("E", bound="RivyaError")
F = TypeVar("F", bound=Callable[..., Any])


class Charged(str, Enum):
    """Whether an order provably cost credits."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


class Sent(str, Enum):
    """What a failed attempt proves about the service having received the request."""

    NO = "no"
    """It never reached the service (DNS, connection refused, TLS)."""
    REFUSED = "refused"
    """The service answered with a refusal."""
    MAYBE = "maybe"
    """The service may have received and executed it (reset, read timeout, truncated response)."""


_CHARGE_SENTENCES = {
    Charged.YES: "Credits were charged.",
    Charged.NO: "No credits were charged.",
    Charged.UNKNOWN: "It may have been charged; that is not known.",
}


class RivyaError(Exception):
    """Base class. Immutable in what it says: `about` returns a changed copy.

    Attributes:
        message: what happened, one sentence, never with a key, a prompt or a signed URL.
        hint: what to do, one sentence.
        code: the service's error code, or this library's.
        status: HTTP status of the response, if any.
        request_id: the service's ``requestId``, for support.
        task_id: the Rivya task, if any.
        order_key: idempotency key of an order of unknown outcome; identifies it for ``python -m rivya forget`` and
            support.
        charged: whether the failed order cost credits; None: not known here. Set once, where it is proved: by the
            order's run, or by `costs_nothing`.
        credits: cost in this run, or credits reserved, if known.
        sent: see `Sent`.
        retry_after_s: wait that the service requested, in seconds.
        row: of a bulk job: the failed row.
    """

    row: Any = None

    default_hint = ""
    default_code = "error"

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        code: str | None = None,
        status: int | None = None,
        request_id: str | None = None,
        task_id: str | None = None,
        order_key: str | None = None,
        charged: Charged | None = None,
        credits: int | None = None,
        sent: Sent = Sent.REFUSED,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = self.default_hint if hint is None else hint
        self.code = code or self.default_code
        self.status = status
        self.request_id = request_id
        self.task_id = task_id
        self.order_key = order_key
        self.charged = charged
        self.credits = credits
        self.sent = sent
        self.retry_after_s = retry_after_s

    def about(self: E, **known: Any) -> E:
        """Return a copy with changed fields: arguments of the constructor, and ``message``."""
        fields = {name: getattr(self, name) for name in _FIELDS} | known
        return type(self)(fields.pop("message"), **fields).with_traceback(self.__traceback__)

    def __str__(self) -> str:
        """The text for people; identifiers on a separate line."""
        cost = _CHARGE_SENTENCES[self.charged] if self.charged is not None else ""
        sentences = " ".join(part for part in (self.message, cost, self.hint) if part)
        details = [
            f"{name}: {value}"
            for name, value in (
                ("code", self.code),
                ("HTTP", self.status),
                ("request", self.request_id),
                ("task", self.task_id),
                ("order", self.order_key),
            )
            if value is not None
        ]
        return f"{sentences}\n\n({', '.join(details)})"

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON values, for report and ledger."""
        return {
            "type": type(self).__name__,
            "message": self.message,
            "hint": self.hint,
            "code": self.code,
            "status": self.status,
            "request_id": self.request_id,
            "task_id": self.task_id,
            "order_key": self.order_key,
            "charged": self.charged.value if self.charged is not None else None,
        }


_FIELDS = (
    "message",
    "hint",
    "code",
    "status",
    "request_id",
    "task_id",
    "order_key",
    "charged",
    "credits",
    "sent",
    "retry_after_s",
)


class costs_nothing:  # noqa: N801 - named like contextlib's
    """Context manager and decorator, also for coroutines: marks errors of its block as not charged.

    For work that sends no order: local checks, uploads, account queries. Errors of known charge stay unchanged.
    """

    def __call__(self, function: F) -> F:
        """Wrap ``function`` in such a block."""

        def run(*args: Any, **options: Any) -> Any:
            with self:
                return function(*args, **options)

        async def run_async(*args: Any, **options: Any) -> Any:
            with self:
                return await function(*args, **options)

        chosen = run_async if inspect.iscoroutinefunction(function) else run
        return cast(F, functools.wraps(function)(chosen))

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        """Raise a `RivyaError` of unknown charge as not charged."""
        if isinstance(error, RivyaError) and error.charged is None:
            raise error.about(charged=Charged.NO) from None


def detached(error: BaseException) -> BaseException:
    """Return a `RivyaError` without traceback and cause: their frames hold signed URLs and prompts.

    Other exceptions are bugs and stay unchanged.
    """
    if isinstance(error, RivyaError):
        error.__cause__ = error.__context__ = error.__traceback__ = None
    return error


class ConfigurationError(RivyaError):
    """A setting (key, base URL or another) is missing or invalid."""

    default_code = "configuration"


class LedgerError(RivyaError):
    """The ledger is not writable, so nothing may be spent."""

    default_code = "ledger_unusable"


class SavingError(RivyaError):
    """A picture cannot be saved where the user wants it: refused before ordering, or kept in the result store."""

    default_code = "not_saved"


class RivyaConnectionError(RivyaError):
    """The service was unreachable, or the connection broke."""

    default_code = "connection_failed"
    default_hint = "Check the network and proxy settings, then run again."


class RivyaTimeoutError(RivyaError):
    """A time limit passed."""

    default_code = "timeout"
    default_hint = "Run again: it resumes where it stands and costs nothing more."


class ApiError(RivyaError):
    """The service returned an error."""

    default_code = "api_error"
    default_hint = "Try again later; if it stays, quote the request id to Rivya support."


class AuthenticationError(ApiError):
    """401: the key is missing, invalid, revoked or expired."""

    default_code = "api_key_invalid"
    default_hint = "Check RIVYA_API_KEY, or set a new key under Settings > Rivya."


class PermissionDeniedError(ApiError):
    """403: the key lacks a scope."""

    default_code = "api_scope_denied"
    default_hint = "Create a key with the scopes files, generations and credits at rivya.ai, and set it here."


class InsufficientCreditsError(ApiError):
    """402: not enough credits."""

    default_code = "insufficient_credits"
    default_hint = "Top up at rivya.ai, then run again."


class ValidationError(ApiError):
    """Local check or 400: an invalid prompt, parameter, reference or request."""

    default_code = "validation_failed"
    default_hint = "Correct the value that the message names and run again."


class RateLimitError(ApiError):
    """429, after all retries."""

    default_code = "rate_limited"
    default_hint = "Wait a minute and run again, or lower RIVYA_MAX_CONCURRENCY."


class ConflictError(ApiError):
    """409: the service knows this idempotency key with another body, or still in flight."""

    default_code = "idempotency_conflict"


class NotFoundError(ApiError):
    """404: no such task or file in this account."""

    default_code = "not_found"
    default_hint = "Check that the task belongs to the account of this key."


class ServiceUnavailableError(ApiError):
    """408 or 5xx, after all retries."""

    default_code = "service_unavailable"
    default_hint = "The service has trouble; run again in a few minutes."


class TaskFailedError(RivyaError):
    """The accepted task failed at the service."""

    default_code = "generation_failed"
    default_hint = "Change the prompt or the picture, or run again for a new attempt."


class UnknownOutcomeError(ConflictError):
    """The service may have accepted the order but returns no task id."""

    default_code = "unknown_outcome"


class GivenUpError(RivyaError):
    """The order's run ended because no caller waited. Recognised by class, as codes come from the service."""

    default_code = "cancelled"


class UnusableAnswerError(RivyaError):
    """An unusable response of the service or a result's host."""

    default_code = "unusable_answer"
    default_hint = "Run again; if it stays, report it to Rivya support."


class ImageError(UnusableAnswerError):
    """Bytes that are no supported picture, or a picture beyond the limits."""

    default_code = "unusable_image"


_BY_CODE: dict[str, type[ApiError]] = {
    "public_api_disabled": ServiceUnavailableError,
    "api_key_missing": AuthenticationError,
    "api_key_invalid": AuthenticationError,
    "api_key_revoked": AuthenticationError,
    "api_key_expired": AuthenticationError,
    "api_scope_denied": PermissionDeniedError,
    "rate_limited": RateLimitError,
    "validation_failed": ValidationError,
    "not_found": NotFoundError,
    "idempotency_conflict": ConflictError,
    "insufficient_credits": InsufficientCreditsError,
}

HINTS = {
    "public_api_disabled": "Rivya has switched its public API off for now; run again later, or use Rivya Studio.",
    "api_key_revoked": "This key was revoked at rivya.ai; create a new one and set it as RIVYA_API_KEY or in Settings.",
    "api_key_expired": "This key has expired; create a new one at rivya.ai and set it as RIVYA_API_KEY or in Settings.",
}
"""Hints for codes more specific than their class."""

_BY_STATUS: dict[int, type[ApiError]] = {
    400: ValidationError,
    401: AuthenticationError,
    402: InsufficientCreditsError,
    403: PermissionDeniedError,
    404: NotFoundError,
    408: ServiceUnavailableError,
    409: ConflictError,
    413: ValidationError,
    415: ValidationError,
    422: ValidationError,
    425: ConflictError,
    429: RateLimitError,
}


def error_class(code: str | None, status: int) -> type[ApiError]:
    """Return the class of a service error: by code, else by HTTP status, else `ApiError`."""
    known = _BY_CODE.get(code or "")
    if known is not None:
        return known
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    return ServiceUnavailableError if status >= 500 else ApiError
