"""One attempt over HTTP: key, proxies, checked addresses, size and time limits. The only package that imports httpx.

Entry: `transport.Transport`."""
