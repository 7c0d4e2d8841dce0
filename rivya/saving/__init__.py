"""Saving pictures where the user wants them; see `places`, `settle`, `write`."""
