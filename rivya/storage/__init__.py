"""The result store: the original bytes of every picture that was paid for, on disk.

Entry: `results.ResultStore`; `opening.open_store` chooses one."""
