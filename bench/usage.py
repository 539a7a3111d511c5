"""What a process uses, read from the kernel's books about it."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Resident memory, and processor seconds spent until a moment of the monotonic clock."""

    resident_bytes: int
    processor_s: float
    at_s: float

    def cores_since(self, before: Usage) -> float:
        """Return how many processor cores were busy since then, on average."""
        return (self.processor_s - before.processor_s) / (self.at_s - before.at_s)


def usage(pid: int) -> Usage:
    """Return what the process uses now; its children are not counted."""
    # The name of a process may hold spaces and brackets: the fields begin behind its last bracket.
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return Usage(
        resident_bytes=pages * _PAGE_BYTES,
        processor_s=(int(fields[11]) + int(fields[12])) / _TICKS_A_SECOND,
        at_s=time.monotonic(),
    )


def family_processor_s(pid: int) -> float:
    """Return the processor seconds that a process and its children have spent, those too that have ended."""
    total = 0
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            fields = file.read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
            if int(file.parent.name) == pid:
                total += sum(map(int, fields[11:15]))
            elif int(fields[1]) == pid:
                total += int(fields[11]) + int(fields[12])
    return total / _TICKS_A_SECOND


def load_average() -> str:
    """Return the machine's load over one, five and fifteen minutes."""
    return " ".join(f"{each:.2f}" for each in os.getloadavg())
