"""Objects in buckets: the only module that imports obstore, when a setting or argument names a bucket.

obstore reads credentials and endpoint from the usual environment variables. Its errors may quote requests and
responses: only a response's code and status are shown or logged.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from . import commands
from .bucket_urls import BucketUrl
from .config import unquoted
from .errors import ConfigurationError

T = TypeVar("T")

_CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
_ENDPOINT = {"s3": "AWS_ENDPOINT_URL", "az": "AZURE_STORAGE_ENDPOINT", "gs": ""}
_OF_S3 = {
    "AWS_ACCESS_KEY_ID": "access_key_id",
    "AWS_SECRET_ACCESS_KEY": "secret_access_key",
    "AWS_REGION": "region",
    "AWS_ENDPOINT_URL": "endpoint",
}
"""Environment variables and their obstore names."""

_WRONG_CREDENTIALS = re.compile(
    r"InvalidAccessKeyId|SignatureDoesNotMatch|ExpiredToken|InvalidToken|InvalidClientTokenId|AuthenticationFailed"
    r"|Missing(AccessKeyId|SecretAccessKey|Account)|InvalidAuthenticationInfo"
)
_NO_BUCKET = re.compile(
    r"NoSuchBucket|ContainerNotFound|The specified bucket does not exist|InvalidBucketName"
)
_OTHER_REGION = re.compile(r"PermanentRedirect|AuthorizationHeaderMalformed|IllegalLocationConstraint")
_NO_CREDENTIALS = re.compile(r"instance metadata|169\.254\.169\.254|metadata\.google|TokenRequest|ADC")
_CODE = re.compile(r"<Code>([A-Za-z]{3,60})</Code>")
_STATUS = re.compile(r"status code: ([0-9]{3})")

_OLDEST = (0, 8)
"""Older obstore versions cannot read object names with # or ?."""
_CONNECT_S, _REQUEST_S = 5, 120
_LISTED_AT_ONCE = 1000
_CONFLICTS = 5
_REST_S = 2.0
"""How long an unreachable service is not asked again: waiting calls must not pile up."""


class BucketError(Exception):
    """A bucket refuses or is unreachable. Names no secret.

    Attributes:
        message: what happened, one sentence.
        hint: what to do, one sentence.
    """

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message, self.hint = message, hint


@dataclass(frozen=True)
class Listed:
    """An object of a bucket.

    Attributes:
        name: relative to the URL's prefix.
        size: in bytes.
        etag: changes with its bytes; empty where the service sends none.
        attributes: stored with it; empty in a listing.
    """

    name: str
    size: int
    etag: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)


class Bucket:
    """The objects under one URL. Methods block, are thread-safe and raise `BucketError`.

    Args:
        setting: origin of the URL, for errors: ``RIVYA_RESULTS``, ``-o`` ...
        tried_for_s: retry limit of a request, in seconds.
        env: names the endpoint.

    Raises:
        ConfigurationError: obstore is not installed.
    """

    def __init__(
        self,
        url: BucketUrl,
        setting: str,
        *,
        tried_for_s: float = 30.0,
        env: Mapping[str, str] = os.environ,
    ) -> None:
        self.url = url
        self._setting = setting
        self._tried_for_s = tried_for_s
        self._named = {name: unquoted(env[name]) for name in _OF_S3 if name in env and url.scheme == "s3"}
        self._endpoint = unquoted(env.get(_ENDPOINT[url.scheme], ""))
        self._obstore = _load(setting)
        # NotImplementedError: obstore's word for an operation that this kind of store lacks.
        self._faults = (self._obstore.exceptions.BaseError, NotImplementedError)
        self._lock = threading.Lock()
        self._store: Any = None
        self._process = os.getpid()
        self._unreachable: tuple[float, BucketError] | None = None

    def put(
        self, name: str, data: bytes, *, create: bool = False, attributes: Mapping[str, str] | None = None
    ) -> bool:
        """Write an object, whole or not at all.

        Args:
            create: keep an existing object. Where the service cannot do that in one step, two simultaneous writers
                may both write.
            attributes: names of letters, and short texts; stored with the object where supported.

        Returns:
            Whether it was written; False only with ``create``.
        """
        options: dict[str, Any] = {"use_multipart": False}
        if attributes:
            options["attributes"] = dict(attributes)
        return self._run("written", lambda: self._put(name, data, options, create))

    def _put(self, name: str, data: bytes, options: dict[str, Any], create: bool) -> bool:
        mode, tries = "create" if create else "overwrite", 0
        while True:
            tries += 1
            try:
                self._obstore.put(self._opened(), name, data, mode=mode, **options)
                return True
            except self._obstore.exceptions.AlreadyExistsError:
                return False
            except self._faults as error:
                if "ConditionalRequestConflict" in str(error) and tries < _CONFLICTS:
                    continue  # another writer at the same moment
                if not _is_not_supported(error):
                    raise
                if "attributes" in options:
                    options = {key: value for key, value in options.items() if key != "attributes"}
                elif mode == "create":
                    if self.look(name) is not None:
                        return False
                    mode = "overwrite"
                else:
                    raise

    def get(self, name: str, max_bytes: int) -> bytes | None:
        """Return an object's bytes; None if missing or larger than ``max_bytes``."""

        def work() -> bytes | None:
            found = self._obstore.get(self._opened(), name)
            return bytes(found.bytes()) if found.meta["size"] <= max_bytes else None

        return self._run_or_none("read", work)

    def save(self, name: str, path: Path) -> bool:
        """Stream an object into a file; False if it is missing."""

        def work() -> bool:
            with path.open("wb") as file:
                for part in self._obstore.get(self._opened(), name).stream():
                    file.write(part)
            return True

        return self._run_or_none("read", work) or False

    def look(self, name: str) -> Listed | None:
        """Return an object's metadata; None if missing."""

        def work() -> Listed:
            found = self._obstore.get(self._opened(), name, options={"head": True})
            return _listed(found.meta, {key: str(value) for key, value in found.attributes.items()})

        return self._run_or_none("read", work)

    def listed(self) -> Iterator[Listed]:
        """Yield all objects under the URL, a thousand per request; most services sort by name."""
        pages = self._run(
            "listed", lambda: iter(self._obstore.list(self._opened(), chunk_size=_LISTED_AT_ONCE))
        )
        while (page := self._run("listed", lambda: next(pages, None))) is not None:
            for each in page:
                yield _listed(each, {})

    def remove(self, name: str) -> None:
        """Remove an object if it exists."""
        self._run_or_none("written", lambda: self._obstore.delete(self._opened(), name))

    def _opened(self) -> Any:
        with self._lock:
            if self._store is None:
                kinds, options = self._obstore.store, self._options()
                kind = {"s3": kinds.S3Store, "gs": kinds.GCSStore, "az": kinds.AzureStore}[self.url.scheme]
                self._store = kind(
                    self.url.bucket,
                    prefix=self.url.prefix or None,
                    **options,
                    client_options={
                        "allow_http": self._endpoint.startswith("http://"),  # the user's explicit choice
                        "connect_timeout": f"{_CONNECT_S}s",
                        "timeout": f"{_REQUEST_S}s",
                    },
                    retry_config={
                        "max_retries": 8,
                        "retry_timeout": timedelta(seconds=self._tried_for_s),
                        "backoff": {
                            "init_backoff": timedelta(milliseconds=200),
                            "max_backoff": timedelta(seconds=5),
                            "base": 2,
                        },
                    },
                )
            return self._store

    def _options(self) -> dict[str, Any]:
        """The S3 variables without surrounding quotes and white space, which obstore would take literally.

        Raises:
            BucketError: the endpoint is no URL; obstore would crash.
        """
        if self._endpoint and not _is_http(self._endpoint):
            raise BucketError(
                f"{_ENDPOINT[self.url.scheme]} is no http or https URL.", "Correct it, or take it away."
            )
        options = {_OF_S3[name]: value for name, value in self._named.items() if value}
        if "AWS_ENDPOINT_URL" in self._named and not self._endpoint:  # empty, which obstore takes for a URL
            region = self._named.get("AWS_REGION") or "us-east-1"
            options["endpoint"] = f"https://s3.{region}.amazonaws.com"
        return options

    def _run_or_none(self, done: str, work: Callable[[], T]) -> T | None:
        """As `_run`; None if the object is missing."""

        def found() -> T | None:
            try:
                return work()
            except (FileNotFoundError, self._obstore.exceptions.NotFoundError) as error:
                if _NO_BUCKET.search(str(error)):
                    raise
                return None

        return self._run(done, found)

    def _run(self, done: str, work: Callable[[], T]) -> T:
        """Run ``work``; ``done`` is its participle in errors."""
        if self._process != os.getpid():
            raise BucketError(
                f"This process was forked from one that uses {self.url}, and cannot use it.",
                "Start worker processes with the method spawn.",
            )
        resting = self._unreachable
        if resting is not None and time.monotonic() < resting[0]:
            raise resting[1]
        try:
            result = work()
        except (*self._faults, OSError, ValueError) as error:
            raise self._explained(done, error) from None
        except BaseException as error:
            if type(error).__name__ != "PanicException":  # a panic of obstore's Rust code, no Exception
                raise
            raise self._explained(done, ValueError("a fault in obstore")) from None
        self._unreachable = None
        return result

    def _explained(self, done: str, error: Exception) -> BucketError:
        text = str(error)
        named = _CODE.search(text) or _STATUS.search(text)
        code = f" ({named[1]})" if named else ""
        credentials, exceptions = _CREDENTIALS[self.url.scheme], self._obstore.exceptions
        if _NO_BUCKET.search(text):
            return BucketError(
                f"There is no bucket {self.url.bucket}{code}.", f"Make it, or correct {self._setting}."
            )
        if isinstance(error, exceptions.UnauthenticatedError) or _WRONG_CREDENTIALS.search(text):
            return BucketError(
                f"The service of {self.url} does not take the credentials{code}.",
                f"Set {credentials} to those of this bucket, or correct {self._setting}.",
            )
        if _OTHER_REGION.search(text):
            return BucketError(f"{self.url} lies in another region{code}.", "Set AWS_REGION to its region.")
        if isinstance(error, exceptions.PermissionDeniedError):
            return BucketError(
                f"{self.url} may not be {done} with these credentials{code}.",
                f"Give them the rights to read, write and list it, or correct {self._setting}.",
            )
        if _NO_CREDENTIALS.search(text):
            return BucketError(f"There are no credentials for {self.url}.", f"Set {credentials}.")
        if named:
            return BucketError(
                f"{self.url} cannot be {done}: its service answers with an error{code}.",
                f"Try again later, or correct {self._setting}.",
            )
        if isinstance(error, (exceptions.GenericError, OSError)) and "rror sending request" in text:
            found = BucketError(
                f"{self.url} cannot be {done}: {self._service()} cannot be reached.",
                f"Look at the network{self._endpoint_hint()}, then run again.",
            )
            self._unreachable = time.monotonic() + _REST_S, found
            return found
        return BucketError(
            f"{self.url} cannot be {done} ({type(error).__name__}).",
            f"Look at {self._setting}, at {credentials}{self._endpoint_hint()}.",
        )

    def _service(self) -> str:
        """The host asked, without secrets of the address."""
        try:
            parts = urlsplit(self._endpoint)
            if parts.hostname:
                return f"{parts.hostname}:{parts.port}" if parts.port else parts.hostname
        except ValueError:
            pass
        return "its service"

    def _endpoint_hint(self) -> str:
        name = _ENDPOINT[self.url.scheme]
        return f" and at {name}" if name else ""


def fetched(text: str, max_bytes: int, setting: str) -> bytes | None:
    """Return the bytes of the object at a URL; None if missing or larger.

    Raises:
        ValueError: the URL names no object.
        BucketError: the bucket refuses or is unreachable.
        ConfigurationError: obstore is not installed.
    """
    url = BucketUrl.read(text)
    return bucket_of(url.scheme, url.bucket, setting).get(url.prefix, max_bytes)


@lru_cache(16)
def bucket_of(scheme: str, bucket: str, setting: str) -> Bucket:
    """Return a whole bucket, opened once for all its objects."""
    return Bucket(BucketUrl(scheme, bucket, ""), setting)


def _load(setting: str) -> Any:
    try:
        import obstore
        import obstore.exceptions
        import obstore.store
    except ImportError:
        raise _not_usable(setting, "that is not installed") from None
    version = tuple(map(int, re.findall(r"[0-9]+", obstore.__version__)[:2]))
    if version < _OLDEST:
        raise _not_usable(setting, f"{obstore.__version__} is too old")
    return obstore


def _not_usable(setting: str, why: str) -> ConfigurationError:
    install = commands.pip_install(f"obstore>={'.'.join(map(str, _OLDEST))}")
    return ConfigurationError(
        f"{setting} names a bucket, which takes obstore, and {why}.",
        hint=f"Install it: {install}. Or name a folder.",
        code="obstore_missing",
    )


def _is_http(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _listed(meta: Mapping[str, Any], attributes: Mapping[str, str]) -> Listed:
    return Listed(str(meta["path"]), int(meta["size"]), str(meta["e_tag"] or "").strip('"'), attributes)


def _is_not_supported(error: Exception) -> bool:
    """Whether the store lacks an operation: obstore raises NotImplementedError, or quotes the server."""
    return isinstance(error, NotImplementedError) or bool(
        re.search(r"NotImplemented|NotSupported|not supported|status code: 501", str(error))
    )
