"""The life of one order, from its fingerprint to stored pictures; it resumes from any state.

Entry: `run.OrderRun`."""
