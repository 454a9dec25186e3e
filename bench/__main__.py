"""`make bench`: Inlay's figures beside what they are to be judged by, measured alternately.

python -m bench [link] [window] [use-case] [memory]
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from typing import TYPE_CHECKING, NamedTuple

from bench.page import Timeline
from bench.stage import Stage, WindowWatch, own_environment, press, pss_mib, stage
from tests.support import isolation
from tests.support.person import CONSENT_TITLE, DETAILS_TITLE, NUMBER_TITLE, cursor_in_field
from tests.support.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PAIRS = 30
WINDOWS = 7
RUNS = 4
PIN = "417530"

_TOOLKIT = """
import tkinter, sv_ttk
from tkinter import ttk
root = tkinter.Tk()
sv_ttk.set_theme("light", root)
ttk.Label(root, text="bench").pack()
root.mainloop()
"""
_MODULES = """
import sys
before = set(sys.modules)
sys.argv = ["inlay", "open", "--", {link!r}]
from agent.desktop.link_handler import main
main()
print(" ".join(sorted(set(sys.modules) - before)))
"""
_SAME_IMPORTS = """
import agent.__main__, agent.server, agent.cards, agent.card_places, agent.readers, agent.channel
import agent.desktop.url_handler, agent.vsc.keys_software, keyring, signal
print(flush=True)
signal.pause()
"""


class Row(NamedTuple):
    """A line of the table.

    Attributes:
        what: what was measured.
        ours: Inlay's figure.
        other: what it is judged by; None where it stands alone.
        unit: of both.
    """

    what: str
    ours: float
    other: float | None
    unit: str


def link(here: Stage) -> list[Row]:
    """`inlay open` with a real link up to the agent's acknowledgement, against `python -I -c pass`."""
    address, timeline = here.pages.begin()
    command = [str(here.desk.agent.launcher), "open", "--", address]
    ours, bare = [], []
    _timed(command, here)  # the first one claims the code; all others raise the window that it opened
    timeline.wait_for("consent")
    for _ in range(PAIRS):
        ours.append(_timed(command, here))
        bare.append(_timed([sys.executable, "-I", "-c", "pass"], here))
    modules = _output([sys.executable, "-I", "-c", _MODULES.format(link=address)], here)
    print(f"modules that `inlay open` loads beyond python's own: {modules.strip()}\n")
    press(here.display, CONSENT_TITLE, "key", "Escape")
    timeline.wait_for("undone")
    return [Row("inlay open, link to acknowledgement : python -c pass", *_medians(ours, bare), "ms")]


def window(here: Stage) -> list[Row]:
    """From `inlay open` to the consent window on the screen, against a window of the toolkit alone."""
    watch = WindowWatch(here.display)
    ours, bare = [], []
    for _ in range(WINDOWS):
        address, timeline = here.pages.begin()
        begin = time.perf_counter()
        process = _start([str(here.desk.agent.launcher), "open", "--", address], here)
        ours.append(1000 * (watch.next() - begin))
        process.wait()
        press(here.display, CONSENT_TITLE, "key", "Escape")
        timeline.wait_for("undone")
        begin = time.perf_counter()
        process = _start([sys.executable, "-I", "-c", _TOOLKIT], here)
        bare.append(1000 * (watch.next() - begin))
        process.kill()
        process.wait()
    watch.close()
    return [Row("link to consent window : the toolkit's own start", *_medians(ours, bare), "ms")]


def use_case(here: Stage) -> list[Row]:
    """The whole use case without the person's time, by part: medians of several runs on a known device."""
    runs = [_one_run(here, known=number > 0) for number in range(RUNS + 1)][1:]
    rows = [Row(f"  {part}", statistics.median(run[part] for run in runs), None, "ms") for part in runs[0]]
    whole = statistics.median(sum(run.values()) for run in runs)
    return [Row("whole use case without the person's time", whole, None, "ms"), *rows]


def memory(here: Stage) -> list[Row]:
    """PSS of the idle agent, a card in a reader, against a bare process with the same imports."""
    argv = [sys.executable, "-I", "-c", _SAME_IMPORTS]
    bare = subprocess.Popen(argv, env=own_environment(), cwd="/", stdout=subprocess.PIPE)
    assert bare.stdout is not None  # noqa: S101 (a pipe was asked for)
    bare.stdout.readline()  # it has imported everything
    ours, other = pss_mib(here.desk.agent.pid), pss_mib(bare.pid)
    bare.kill()
    bare.communicate()
    return [Row("idle agent (PSS) : bare process, same imports", ours, other, "MiB")]


def _one_run(here: Stage, *, known: bool) -> dict[str, float]:
    """One card; milliseconds by part."""
    address, timeline = here.pages.begin()
    parts: dict[str, float] = {}
    begin = time.perf_counter()
    _timed([str(here.desk.agent.launcher), "open", "--", address], here)
    press(here.display, CONSENT_TITLE, "getactivewindow")
    wait_until(lambda: cursor_in_field(here.display), "the cursor in the window's field")
    here.display.xdotool("type", "--delay", "8", PIN)
    parts["link, claim, order checked, window opened"] = 1000 * (timeline.wait_for("consent") - begin)
    here.display.xdotool("key", "Tab")
    here.display.xdotool("type", "--delay", "8", PIN)
    begin = time.perf_counter()
    here.display.xdotool("key", "Return")
    if not known:
        press(here.display, NUMBER_TITLE, "getactivewindow")
        title = here.display.run("xdotool", "getactivewindow", "getwindowname").stdout
        begin = time.perf_counter()
        here.pages.number(title[:3])
    parts |= _steps(timeline, begin)
    press(here.display, DETAILS_TITLE, "getactivewindow")
    parts["card active, in a reader, details shown"] = 1000 * (
        time.perf_counter() - timeline.wait_for("finished")
    )
    here.display.xdotool("key", "Escape")
    here.pages.finish()
    return parts


def _steps(timeline: Timeline, begin: float) -> dict[str, float]:
    """From consent to the receipt's answer: the portal's own events tell where a step ends."""
    marks = [timeline.wait_for(name) for name in ("keys", "certificates", "writing", "proving", "finished")]
    names = (
        "consent, binding",
        "card and keys made",
        "certificates issued, keys from the archive",
        "written, read back",
        "proofs, receipt, portal's checks",
    )
    return {
        name: 1000 * (end - start) for name, start, end in zip(names, [begin, *marks], marks, strict=False)
    }


def _timed(argv: Sequence[str], here: Stage) -> float:
    """Milliseconds a command takes.

    Raises:
        RuntimeError: it failed.
    """
    begin = time.perf_counter()
    status = _start(argv, here).wait()
    milliseconds = 1000 * (time.perf_counter() - begin)
    if status != 0:
        raise RuntimeError(f"{argv[0]} ended with {status}")
    return milliseconds


def _start(argv: Sequence[str], here: Stage) -> subprocess.Popen[bytes]:
    environment = own_environment() | here.desk.agent.env
    return subprocess.Popen(argv, env=environment, cwd="/", stdin=subprocess.DEVNULL)


def _output(argv: Sequence[str], here: Stage) -> str:
    done = subprocess.run(argv, env=here.desk.agent.env, cwd="/", capture_output=True, text=True, check=True)
    return done.stdout


def _medians(ours: Sequence[float], other: Sequence[float]) -> tuple[float, float]:
    return statistics.median(ours), statistics.median(other)


def _print(rows: Sequence[Row]) -> None:
    print(f"{'':<58} {'Inlay':>9} {'beside':>9} {'ratio':>6} {'more by':>9}")
    for row in rows:
        beside = (
            f"{row.other:9.1f} {row.ours / row.other:6.2f} {row.ours - row.other:9.1f}" if row.other else ""
        )
        print(f"{row.what:<58} {row.ours:9.1f} {beside} {row.unit}")


PARTS: dict[str, Callable[[Stage], list[Row]]] = {
    "link": link,
    "window": window,
    "use-case": use_case,
    "memory": memory,
}


def main(arguments: Sequence[str]) -> int:
    """Measure, and print one table."""
    chosen = list(arguments) or list(PARTS)
    unknown = [name for name in chosen if name not in PARTS]
    if unknown:
        print(f"bench: there are {', '.join(PARTS)}; not {unknown[0]}")
        return 2
    isolation.enter()
    with stage() as here:
        _print([row for name in chosen for row in PARTS[name](here)])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
