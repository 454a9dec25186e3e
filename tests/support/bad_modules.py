"""PKCS#11 modules that misbehave, built from a few lines of C."""

from __future__ import annotations

import subprocess
from pathlib import Path

_SOURCE = r"""
#include <stdlib.h>
#include <stdio.h>
#include <unistd.h>
#include <sys/prctl.h>

typedef unsigned long CK_ULONG;
typedef CK_ULONG (*CK_FUNCTION)();
struct version { unsigned char major, minor; };
struct functions { struct version version; CK_FUNCTION of[68]; };

static CK_ULONG fine() { return 0; }
static CK_ULONG unsupported() { return 0x54; }
static CK_ULONG chatters() { printf("not an answer\n"); fflush(stdout); fprintf(stderr, "nor this\n"); return 0x54; }
static CK_ULONG crashes() { abort(); }
static CK_ULONG hangs() { for (;;) pause(); }

static struct functions table;

CK_ULONG C_GetFunctionList(struct functions **found)
{
    table.version.major = 2;
    table.version.minor = 40;
    for (int i = 0; i < 68; i++) table.of[i] = unsupported;
    table.of[0] = fine;        /* C_Initialize */
    table.of[1] = fine;        /* C_Finalize */
    table.of[4] = SLOT_LIST;   /* C_GetSlotList */
    *found = &table;
    return 0;
}
"""


def build(folder: Path, behaviour: str) -> Path:
    """Build a module whose C_GetSlotList ``crashes``, ``hangs`` or ``chatters``."""
    source, module = folder / f"{behaviour}.c", folder / f"{behaviour}.so"
    source.write_text(_SOURCE)
    subprocess.run(
        ["gcc", "-w", "-shared", "-fPIC", f"-DSLOT_LIST={behaviour}", "-o", str(module), str(source)],
        check=True,
        timeout=60,
    )
    return module
