"""Which cases of a test run always, and which with --slow."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def slow_but(cases: Iterable[Any], *often: Any) -> list[Any]:
    """Cases for ``parametrize``: those of ``often`` run always, all others with --slow."""
    cases = list(cases)
    assert set(often) <= set(cases), "a case that is not there"
    return [case if case in often else pytest.param(case, marks=pytest.mark.slow) for case in cases]


def slow_after(count: int, cases: Iterable[Any]) -> list[Any]:
    """Cases for ``parametrize``: the first ``count`` run always, all others with --slow; tuples are unpacked."""
    cases = [case if isinstance(case, tuple) else (case,) for case in cases]
    often, others = cases[:count], cases[count:]
    return [pytest.param(*case) for case in often] + [
        pytest.param(*case, marks=pytest.mark.slow) for case in others
    ]
