"""A reader with a card whose module is SoftHSM 2 behind a shim: it crashes, hangs, or loses its card as a test says.

Where a PIN has to come from the keys of the reader, the shim is these keys, too.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from agent import card_map
from agent.card_map import CardKind, CardMap
from agent.ordered_card import CardReaders
from agent.pcsc.look import Evidence
from agent.pcsc.reader_events import Look, ReaderLook
from agent.reader_watch import ReaderWatch
from protocol.errors import InlayError
from tests.support import softhsm

ATR = bytes.fromhex("3B021450")
SO_PIN, PIN = b"87654321", b"246810"
_SHIM = r"""
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef unsigned long W;
typedef W (*F)();
struct functions { unsigned char major, minor; F of[68]; };
static struct functions table, *real;

/* The plan is one line: number of the function, and what happens when it is called next; it happens once. */
static const char *planned(int n)
{
    static char word[32];
    int number;
    FILE *f = fopen(FOLDER "/plan", "r");
    if (!f) return "";
    int read = fscanf(f, "%d %31s", &number, word);
    fclose(f);
    if (read != 2 || number != n) return "";
    unlink(FOLDER "/plan");
    return word;
}

/* Where "calls" is, each call is counted there, three bytes each; "at" is the number of one, and what happens to it. */
static const char *at(int n)
{
    static char word[32];
    int wanted, calls = open(FOLDER "/calls", O_WRONLY | O_APPEND);
    if (calls < 0) return "";
    dprintf(calls, "%02d\n", n);
    int number = lseek(calls, 0, SEEK_END) / 3;
    close(calls);
    FILE *f = fopen(FOLDER "/at", "r");
    if (!f) return "";
    int read = fscanf(f, "%d %31s", &wanted, word);
    fclose(f);
    return read == 2 && wanted == number ? word : "";
}

/* Each PIN or PUK that was wrong leaves a byte. */
static void noted(W answer)
{
    int wrong = answer == 0xA0 ? open(FOLDER "/wrong", O_WRONLY | O_APPEND) : -1;
    if (wrong < 0) return;
    dprintf(wrong, ".");
    close(wrong);
}

/* The answer never comes, which is told where somebody wants to know it, by the number of the process. */
static void hang(void)
{
    int told = open(FOLDER "/hangs", O_WRONLY | O_NONBLOCK);
    if (told >= 0) { dprintf(told, "%d\n", getpid()); close(told); }
    for (;;) pause();
}

static int there(void) { return access(FOLDER "/present", F_OK) == 0; }

/* How many more processes of this module don't see a card that is there; each counts itself once. */
static int blind(void)
{
    static int mine = -1;
    if (mine >= 0) return mine;
    int left = 0;
    FILE *f = fopen(FOLDER "/blind", "r");
    if (f) { if (fscanf(f, "%d", &left) != 1) left = 0; fclose(f); }
    mine = left > 0;
    if (mine && (f = fopen(FOLDER "/blind", "w"))) { fprintf(f, "%d", left - 1); fclose(f); }
    return mine;
}

/* What the module answers to C_CreateObject of a private key, always. */
static W refuses(int n, W template, W count)
{
    struct { W type; void *value; W length; } *attribute = (void *)template;
    W answer = 0;
    FILE *f = n == 20 ? fopen(FOLDER "/takes", "r") : NULL;
    if (!f) return 0;
    int read = fscanf(f, "%lx", &answer);
    fclose(f);
    for (W i = 0; read == 1 && i < count; i++)
        if (attribute[i].type == 0 && *(W *)attribute[i].value == 3) return answer;
    return 0;
}

/* How PINs arrive is written down: as a pointer or NULL, and the length; nothing of the PIN itself. */
static void told(int n, W pin, W length)
{
    FILE *f = fopen(FOLDER "/told", "a");
    fprintf(f, "%d %s %lu\n", n, pin ? "pointer" : "NULL", length);
    fclose(f);
}

/* The pad: what is typed is the next word of a file; "=50" is answered to the call instead. */
static W typed(int n, W *pin, W *length)
{
    static char words[1024], word[2][64];
    static int turn;
    told(n, *pin, *length);
    FILE *f = *pin ? NULL : fopen(FOLDER "/pad", "r");
    if (!f) return 0;
    char *into = word[turn ^= 1];
    int read = fscanf(f, "%63s %1023[^\n]", into, words);
    fclose(f);
    if (read < 1) return 0;
    f = fopen(FOLDER "/pad.rest", "w");
    if (read == 2) fputs(words, f);
    fclose(f);
    rename(FOLDER "/pad.rest", FOLDER "/pad");
    if (*into == '=') return strtoul(into + 1, NULL, 16);
    *pin = (W)into;
    *length = strlen(into);
    return 0;
}

static W call(int n, W a, W b, W c, W d, W e, W f, W g, W h)
{
    const char *what = planned(n);
    if (!*what) what = at(n);
    if (!strcmp(what, "crash")) abort();
    if (!strcmp(what, "hang")) hang();
    if (!strcmp(what, "killed")) { kill(getppid(), SIGKILL); _exit(1); }
    if (!strcmp(what, "full")) return 0x31;
    if (!strcmp(what, "pull")) unlink(FOLDER "/present");
    if (n == 4 && blind()) { *(W *)c = 0; return 0; }
    if (!there()) {
        if (n == 4) { *(W *)c = 0; return 0; }   /* C_GetSlotList */
        return 0x32;                             /* CKR_DEVICE_REMOVED */
    }
    W answer = 0;
    if (n == 9 || n == 10 || n == 11) answer = typed(n, &b, &c);      /* C_InitToken, C_InitPIN, C_SetPIN */
    if (n == 18) answer = typed(n, &c, &d);                           /* C_Login */
    if (n == 11 && answer == 0) answer = typed(n, &d, &e);
    if (answer == 0) answer = refuses(n, b, c);
    if (answer == 0) answer = real->of[n](a, b, c, d, e, f, g, h);
    noted(answer);
    if (!strcmp(what, "late")) hang();
    if (n == 9 && answer == 0) unlink(FOLDER "/unused");
    if (!strcmp(what, "after")) abort();
    if (!strcmp(what, "killed-after")) { kill(getppid(), SIGKILL); _exit(1); }
    if (!strcmp(what, "lost")) { unlink(FOLDER "/present"); return 0x32; }
    if (n == 6 && answer == 0) {                  /* C_GetTokenInfo: flags come after 32 + 32 + 16 + 16 characters */
        FILE *more = fopen(FOLDER "/flags", "r");
        W set, shortest;
        int read = more ? fscanf(more, "%lx %lu", &set, &shortest) : 0;
        if (more) fclose(more);
        if (!access(FOLDER "/unused", F_OK)) *(W *)((char *)b + 96) &= ~0x408UL;
        if (read >= 1) *(W *)((char *)b + 96) |= set;
        if (read == 2) *(W *)((char *)b + 144) = shortest;
    }
    return answer;
}

#define W_(n) static W w##n(W a, W b, W c, W d, W e, W f, W g, W h) { return call(n, a, b, c, d, e, f, g, h); }
WRAPPERS

W C_GetFunctionList(struct functions **found)
{
    void *library = dlopen(MODULE, RTLD_NOW);
    W (*get)(struct functions **) = dlsym(library, "C_GetFunctionList");
    get(&real);
    table = *real;
    ENTRIES
    *found = &table;
    return 0;
}
"""
PROTECTED_PATH = 0x100
"""CKF_PROTECTED_AUTHENTICATION_PATH."""
_WRAPPED = range(4, 66)
"""All functions but C_Initialize, C_Finalize, C_GetInfo and C_GetFunctionList, in the list's order (v2.40)."""
FUNCTIONS = {
    "C_GetSlotList": 4,
    "C_GetTokenInfo": 6,
    "C_InitToken": 9,
    "C_InitPIN": 10,
    "C_SetPIN": 11,
    "C_OpenSession": 12,
    "C_Login": 18,
    "C_CreateObject": 20,
    "C_DestroyObject": 22,
    "C_FindObjectsInit": 26,
    "C_Sign": 43,
    "C_GenerateKeyPair": 59,
}


def build(folder: Path) -> Path:
    """Build the shim; ``plan``, ``present``, ``flags`` and ``pad`` are read in the same folder, ``told`` is written."""
    wrappers = "\n".join(f"W_({number})" for number in _WRAPPED)
    entries = "\n".join(f"table.of[{number}] = w{number};" for number in _WRAPPED)
    source, module = folder / "shim.c", folder / "shim.so"
    source.write_text(_SHIM.replace("WRAPPERS", wrappers).replace("ENTRIES", entries))
    macros = [f'-DFOLDER="{folder}"', f'-DMODULE="{softhsm.MODULE}"']
    subprocess.run(
        ["gcc", "-w", "-shared", "-fPIC", *macros, "-o", str(module), str(source), "-ldl"],
        check=True,
        timeout=60,
    )
    return module


class TokenReaders:
    """One reader, in which the token is; see ``tests.support.agent_parts.HasReaders``.

    Attributes:
        folder: of the shim.
        module: what the card map says for the card; None: it knows none.
        looks: how often a card was looked at.
    """

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.module: Path | None = folder / "shim.so"
        self.looks = 0
        self._count = 1
        self._tell: Callable[[Look], None] = lambda _look: None
        (folder / "present").touch()
        monkeypatch.setattr(card_map, "load", lambda _machine: CardMap(self._kinds(), ()))

    @classmethod
    def with_a_store(cls, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> TokenReaders:
        """A reader whose token is in a store of this test's own; nothing is planned."""
        monkeypatch.setenv("SOFTHSM2_CONF", str(softhsm.make_config(tmp_path)))
        for left in (
            "plan",
            "flags",
            "told",
            "pad",
            "blind",
            "takes",
            "unused",
            "calls",
            "at",
            "wrong",
            "hangs",
        ):
            (folder / left).unlink(missing_ok=True)
        return cls(folder, monkeypatch)

    def card_readers(self, machine: Path) -> CardReaders:
        """What the agent's core gets."""
        return CardReaders(ReaderWatch(self._monitor), machine, look=self._look_at)

    def plan(self, function: str, what: str) -> None:
        """What happens, once, at the next call of a function.

        ``crash`` and ``hang`` before it was carried out, ``after``: it crashes when it was; ``pull`` and ``lost``: the
        card is pulled out before and after; ``full``: there is no memory.
        """
        text = self.folder / "text"
        text.write_text(f"{FUNCTIONS[function]} {what}\n")
        text.rename(self.folder / "plan")

    @property
    def is_planned(self) -> bool:
        """Whether what was planned has not happened yet."""
        return (self.folder / "plan").exists()

    def flags(self, flags: int, shortest: int | None = None) -> None:
        """Flags that the token shows besides its own, and another length of its shortest PIN."""
        (self.folder / "flags").write_text(f"{flags:x} {'' if shortest is None else shortest}")

    def takes_no_private_key(self, answer: int) -> None:
        """What the module answers to C_CreateObject of one, from now on."""
        (self.folder / "takes").write_text(f"{answer:x}")

    def never_initialised(self) -> None:
        """The token says so until it is initialised, which takes its maker's PUK (CKF_TOKEN_INITIALIZED is unset)."""
        (self.folder / "unused").touch()

    def count_calls(self, number: int = 0, what: str = "") -> None:
        """Count the module's calls from now on, and have something happen to one of them, as in `plan`.

        ``late``: it was carried out, and its answer never comes; ``killed`` and ``killed-after``: the agent, whose
        child the module's process is, is killed before and after it.
        """
        (self.folder / "at").write_text(f"{number} {what}")
        for name in ("calls", "wrong"):
            (self.folder / name).write_bytes(b"")

    def says_that_it_hangs(self) -> Path:
        """Have the module say so whenever it does: the number of its process and a line's end, in this pipe."""
        os.mkfifo(self.folder / "hangs")
        return self.folder / "hangs"

    @property
    def calls(self) -> list[int]:
        """Numbers of the functions that were called, see `FUNCTIONS`."""
        return [int(line) for line in (self.folder / "calls").read_text().split()]

    @property
    def wrong(self) -> int:
        """How many wrong PINs and PUKs the module was told."""
        return (self.folder / "wrong").stat().st_size

    def blind(self, processes: int) -> None:
        """The next so many processes of the module don't see the card, as if it had come later."""
        (self.folder / "blind").write_text(str(processes))

    @property
    def still_blind(self) -> int:
        """How many of them there are still to be."""
        return int((self.folder / "blind").read_text())

    def at_pad(self, *typed: bytes | int) -> None:
        """What is typed at the reader's keys next, one entry for each PIN; a number is what the module answers."""
        entries = (item.decode() if isinstance(item, bytes) else f"={item:x}" for item in typed)
        (self.folder / "pad").write_text(" ".join(entries))
        self.flags(PROTECTED_PATH)

    @property
    def left_at_pad(self) -> int:
        """How much of it nobody has asked for."""
        return len((self.folder / "pad").read_text().split())

    def told(self) -> list[tuple[str, bool, int]]:
        """The PINs that the module was told: the function, whether the pointer was NULL, and the length."""
        written = self.folder / "told"
        lines = [line.split() for line in written.read_text().splitlines()] if written.exists() else []
        names = {number: name for name, number in FUNCTIONS.items()}
        return [(names[int(number)], pointer == "NULL", int(length)) for number, pointer, length in lines]

    def take(self) -> None:
        """The card is pulled out."""
        (self.folder / "present").unlink(missing_ok=True)
        self.show()

    def put(self) -> None:
        """The card is put in."""
        (self.folder / "present").touch()
        self._count += 2
        self.show()

    def show(self) -> None:
        """Tell the watch how the reader stands."""
        there = (self.folder / "present").exists()
        self._tell(Look(None, (ReaderLook("One", there, ATR if there else b"", self._count),)))

    def _kinds(self) -> tuple[CardKind, ...]:
        if self.module is None:
            return ()
        return (CardKind("Token", "pkcs11", self.module, ATR, b"\xff" * len(ATR), None, frozenset(), "test"),)

    def _monitor(self, tell: Callable[[Look], None]) -> _Monitor:
        self._tell = tell
        return _Monitor(self)

    def _look_at(self, _reader: str, _aids: frozenset[bytes], _features: frozenset[str]) -> Evidence:
        self.looks += 1
        if not (self.folder / "present").exists():
            raise InlayError("pcsc_card_removed")
        return Evidence(ATR)


class _Monitor:
    """See ``agent.reader_watch.ReaderMonitor``."""

    def __init__(self, readers: TokenReaders) -> None:
        self._readers = readers

    def start(self) -> None:
        self._readers.show()

    def stop(self) -> None:
        pass


def initialise(label: str = "before", pin: bytes | None = PIN) -> None:
    """Initialise the store's blank token, with SoftHSM's own tool."""
    pins = ["--pin", (pin or PIN).decode()]
    command = [
        "softhsm2-util",
        "--init-token",
        "--free",
        "--label",
        label,
        "--so-pin",
        SO_PIN.decode(),
        *pins,
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=30, env=os.environ)


def pkcs11_tool(*arguments: str, pin: bytes | None = PIN) -> str:
    """What OpenSC's tool says of the token."""
    login = [] if pin is None else ["--login", "--pin", pin.decode()]
    command = ["pkcs11-tool", "--module", str(softhsm.MODULE), *login, *arguments]
    return subprocess.run(command, check=True, capture_output=True, timeout=30, text=True).stdout
