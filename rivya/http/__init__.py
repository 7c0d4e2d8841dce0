"""Single HTTP attempts: key, proxies, checked addresses, size and time limits. The only package that imports httpx.

Entry: `transport.Transport`.
"""

from __future__ import annotations

from .. import needed

needed.check()
