"""Fixtures of the tests with hostile hosts: a certificate authority of their own, and no proxies."""

from __future__ import annotations

import pytest

from hostile.host import CERTIFICATES
from support.proxies import forget_proxies


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    forget_proxies(monkeypatch)
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATES / "ca.pem"))
    return monkeypatch
