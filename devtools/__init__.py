"""What ``python dev.py`` does: environment, demo, test, bench. Standard library only."""
