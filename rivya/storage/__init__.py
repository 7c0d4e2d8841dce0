"""The result store: the original bytes of every paid picture.

Entry: `results.ResultStore`; `opening.open_store` chooses one.
"""
