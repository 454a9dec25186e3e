"""What a process has in its memory, for tests that look for a secret there."""

from __future__ import annotations

from pathlib import Path


def holds(pid: int, *wanted: bytes) -> set[bytes]:
    """Those of some byte strings that are anywhere in what a process may read of its own memory.

    Needs to be root, in the user namespace that the process was started in: it may be undumpable.
    """
    found: set[bytes] = set()
    with Path(f"/proc/{pid}/maps").open() as maps, Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in maps:
            span, rights, *_ = line.split()
            begin, end = (int(number, 16) for number in span.split("-"))
            if not rights.startswith("r") or line.rstrip().endswith(("[vvar]", "[vsyscall]")):
                continue
            memory.seek(begin)
            try:
                content = memory.read(end - begin)
            except OSError:  # mapped from a file that has become shorter, or gone meanwhile
                continue
            found |= {item for item in wanted if item in content}
    return found
