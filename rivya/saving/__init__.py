"""Saving pictures where a user wants them; see `places`, `settle`, `write`."""
