"""The program with one command a transaction: the baseline that group commit is measured against."""

from __future__ import annotations

from engine import writer
from gledger.cli import main

if __name__ == "__main__":
    writer.BATCH_COMMANDS_MAX = 1  # type: ignore[misc]
    main()
