"""Trusted certificates: those of certifi, this computer and the user together.

Companies and virus scanners that intercept TLS put their root certificate into the system store, or into a variable
of OpenSSL or requests.
"""

from __future__ import annotations

import logging
import os
import platform
import re
import ssl
from collections.abc import Iterator, Sequence
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path

from .. import commands
from ..config import unquoted
from ..errors import ConfigurationError, Sent

logger = logging.getLogger("rivya")

VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_MAX_BYTES = 16 * 1024 * 1024

_SYSTEM_FILES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Arch, Alpine
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",  # Fedora, RHEL
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",  # SUSE
    "/etc/ssl/cert.pem",  # BSD
)
"""System certificate files, for a Python built elsewhere that looks in other places."""

_OWN_VERIFICATION = ("Windows", "Darwin")
"""Systems that verify certificates themselves, as for browsers, through truststore."""

_PEM = rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----"
_HASHED = r"[0-9a-f]{8}\.[0-9]+"

_EXPIRED, _NOT_YET = 10, 9
_OTHER_NAME = (62, 64)
"""OpenSSL's verification error numbers (``x509_vfy.h``)."""

_PLAIN_PROXY = (
    "The other side speaks no TLS: where HTTPS_PROXY or ALL_PROXY begins with https://, try http:// there."
)


def context() -> ssl.SSLContext:
    """TLS client settings that verify certificates and names. Blocks: reads files.

    Python 3.13's ``VERIFY_X509_STRICT`` (RFC 5280) is off, as many company roots violate it. A trusted intermediate
    certificate is enough.

    Raises:
        ConfigurationError: certifi's list is unreadable.
    """
    made = _native() or _openssl()
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.verify_flags = (made.verify_flags & ~ssl.VERIFY_X509_STRICT) | ssl.VERIFY_X509_PARTIAL_CHAIN
    loading = _Loading(made)
    import certifi

    try:
        loading.file(Path(certifi.where()))
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"The list of certificates of certifi cannot be read: {_why(error)}.",
            hint=f"Run {commands.pip_install('--force-reinstall', 'certifi')} and start again.",
            sent=Sent.NO,
        ) from None
    loading.first_of([ssl.get_default_verify_paths().openssl_cafile, *_SYSTEM_FILES])
    for name, path in _named():
        try:
            loading.file_or_folder(path)
        except (OSError, ValueError) as error:
            logger.warning("Rivya: %s names %s, which is left out: %s.", name, path, _why(error))
    return made


class _Loading:
    """Loads certificates, each once: OpenSSL is slow to detect duplicates."""

    def __init__(self, made: ssl.SSLContext) -> None:
        self._made = made
        self._seen: set[bytes] = set()

    def file(self, path: Path) -> None:
        """Load a PEM or DER file. Raises OSError, or ValueError if it has no certificate."""
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError("it is too large for a list of certificates")
        data = path.read_bytes()
        if b"-----BEGIN" not in data:
            self._made.load_verify_locations(cadata=data)
            return
        found = re.findall(_PEM, data, re.DOTALL)
        if not found:
            raise ValueError("it holds no certificate")
        new = [text for text in dict.fromkeys(found) if text not in self._seen]
        if new:
            self._made.load_verify_locations(cadata=b"\n".join(new).decode("ascii", "replace"))
            self._seen.update(new)

    def first_of(self, names: Sequence[str]) -> None:
        """Load the first readable one of these files."""
        for name in names:
            try:
                self.file(Path(name))
                return
            except (OSError, ValueError):
                continue

    def file_or_folder(self, path: Path) -> None:
        """Load a file or a folder. Raises OSError or ValueError."""
        if not path.is_dir():
            self.file(path)
            return
        self._made.load_verify_locations(capath=path)
        names = os.listdir(path)
        if any(re.fullmatch(_HASHED, name) for name in names):
            return
        for name in names:  # made by hand, without the hash links that OpenSSL needs
            try:
                self.file(path / name)
            except (OSError, ValueError):  # a folder may hold other files
                logger.debug("Rivya: no certificate in %s", path / name)


def advice(error: BaseException) -> str | None:
    """What to do about a TLS failure; None without advice or if TLS was not the cause."""
    found = tls_failure(error)
    if found is None:
        return None
    if not isinstance(found, ssl.SSLCertVerificationError):
        return _PLAIN_PROXY if found.reason == "WRONG_VERSION_NUMBER" else None
    if found.verify_code in (_EXPIRED, _NOT_YET):
        now = f"{datetime.now():%Y-%m-%d %H:%M}"
        return f"Check the date of this computer: it says {now}. If that is right, try again later."
    if found.verify_code in _OTHER_NAME:
        return (
            "Another server answered in its place: look whether this network asks for a login in the browser, "
            "and check the proxy settings."
        )
    return f"{_install_root()}{_left_out()} Then start again."


def _install_root() -> str:
    store = ""
    if platform.system() in _OWN_VERIFICATION:
        store = "put it into the system's store of trusted root certificates"
        if find_spec("truststore") is None:
            store += f" (and run {commands.pip_install('truststore')})"
        store += ", or "
    return (
        "A company's network or a virus scanner may have put its own certificate in place of the real one. Ask for its "
        f"root certificate as a PEM file and {store}set SSL_CERT_FILE to the path of that file."
    )


def _left_out() -> str:
    """A sentence on variables that name missing files."""
    lost = [f"{name} names {path}" for name, path in _named() if not path.exists()]
    return f" ({'; '.join(lost)}: there is no such file.)" if lost else ""


def tls_failure(error: BaseException) -> ssl.SSLError | None:
    """The error of TLS that caused this one, if any."""
    return next((cause for cause in causes(error) if isinstance(cause, ssl.SSLError)), None)


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error, and up to nine errors behind it, innermost last."""
    for _ in range(10):
        if error is not None:
            yield error
            error = error.__cause__ or error.__context__


def _native() -> ssl.SSLContext | None:
    """Settings that verify as Windows or macOS does; None elsewhere."""
    if platform.system() not in _OWN_VERIFICATION or find_spec("truststore") is None:
        return None
    import truststore

    made: ssl.SSLContext = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return made


def _openssl() -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    folder = ssl.get_default_verify_paths().openssl_capath
    if os.name == "nt":
        made.load_default_certs()
    elif os.path.isdir(folder):
        made.load_verify_locations(capath=folder)
    return made


def _named() -> Iterator[tuple[str, Path]]:
    for name in VARIABLES:
        value = unquoted(os.environ[name]) if name in os.environ else ""
        for part in value.split(os.pathsep) if name == "SSL_CERT_DIR" else [value]:
            if part:
                yield name, Path(part).expanduser()


def _why(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
