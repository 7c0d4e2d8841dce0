"""The Rivya Public API v1: endpoints, retries, rate limit, poll schedule.

Entry: `endpoints.Api`.
"""
