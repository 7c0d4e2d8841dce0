"""The Rivya Public API v1: a method for each endpoint, retries, rate limit, and when to poll next.

Entry: `endpoints.Api`."""
