"""Finds the pictures to edit in a folder or bucket; see `find`, `bucket`."""
