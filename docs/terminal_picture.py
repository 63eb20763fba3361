"""Record two commands in a terminal, as docs/terminal-light.svg and docs/terminal-dark.svg: what a new user sees in ten seconds.

    python docs/terminal_picture.py

The commands run in a pseudo-terminal in an empty folder; Rich's recorder draws what they print. Needs a POSIX system.
"""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
from pathlib import Path

import pictures
from rich.console import Console
from rich.terminal_theme import DEFAULT_TERMINAL_THEME, MONOKAI, TerminalTheme
from rich.text import Text

HERE = Path(__file__).parent
COMMANDS = ("tiedae train digits --epochs 10", "tiedae reconstruct digits --n 2")
WIDTH, HEIGHT = 104, 36
THEMES: dict[str, TerminalTheme] = {"light": DEFAULT_TERMINAL_THEME, "dark": MONOKAI}
LEFT_OUT = (
    r"@font-face \{.*?\}",  # fetched from elsewhere: the reader's own font is shown instead
    r' clip-path="url\(#[\w-]+-line-\d+\)"',  # a third of the file, and no line is too long
    r'<clipPath id="[\w-]+-line-\d+">.*?</clipPath>',
)


def main() -> None:
    """Write the pictures."""
    with tempfile.TemporaryDirectory() as folder:
        shown = [line for command in COMMANDS for line in (f"\x1b[1m$ {command}\x1b[0m", *printed(command, folder), "")]
    for name, theme in THEMES.items():
        console = Console(record=True, width=WIDTH, file=open(os.devnull, "w"), force_terminal=True, color_system="truecolor")
        for line in shown[:-1]:
            console.print(Text.from_ansi(line), no_wrap=True, crop=True)
        svg = console.export_svg(title="tiedae", theme=theme, unique_id=f"tiedae-{name}")
        for part in LEFT_OUT:
            svg = re.sub(part, "", svg, flags=re.DOTALL)
        (HERE / f"terminal-{name}.svg").write_text(svg, encoding="utf-8")
        pictures.record(f"docs/terminal-{name}.svg")


def printed(command: str, folder: str) -> list[str]:
    """Return the lines that a command leaves in a terminal, with their colors."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", HEIGHT, WIDTH, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", "PYTHONPATH": str(HERE.parent)}
    words = [sys.executable, "-P", "-m", "tiedae_cli", *command.split()[1:]]
    process = subprocess.Popen(words, cwd=folder, env=environment, stdin=follower, stdout=follower, stderr=follower)
    os.close(follower)
    parts = []
    while part := _read(leader):
        parts.append(part)
    if process.wait() != 0:
        raise SystemExit(f"{command}: {b''.join(parts).decode()}")
    text = b"".join(parts).decode()
    lines = [line.split("\r")[-1] for line in text.replace("\r\n", "\n").split("\n")]
    return [
        line
        for line in (re.sub(r"\x1b\[(\?\d+[hl]|[0-9;]*[AKJGH])", "", line) for line in lines)
        if line.strip() and "━" not in line
    ]  # without the bar, which a terminal removes


def _read(leader: int) -> bytes:
    try:
        return os.read(leader, 1 << 16)
    except OSError:  # the process has ended
        return b""


if __name__ == "__main__":
    main()
