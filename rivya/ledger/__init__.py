"""Every order and upload, in a database: written before money can be spent, read before it is spent again.

Entry: `ledger.Ledger`.
"""
