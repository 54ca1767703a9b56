"""Types commands into the shell of alice, and draws the terminal."""

import fcntl
import hashlib
import io
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import tarfile
import termios
import time
from pathlib import Path

import pyte

from svg import draw

COLUMNS, LINES = 118, 60
PROMPT = "$ "
TBD = "2ea25035-6aa4-42fb-9955-92288ea1b972"
# The picture of the bars is drawn when a part of the image has been sent.
HALFWAY = re.compile(r"(?m)^.*\b\d of \d blobs.*\b[3-6]\d(\.\d)? MB of ")
TIMEOUT_SECONDS = 60


class Terminal:
    """A shell in an emulated terminal."""

    def __init__(self, command):
        self.screen = pyte.Screen(COLUMNS, LINES)
        self.stream = pyte.ByteStream(self.screen)
        self.end, other = pty.openpty()
        fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
        self.shell = subprocess.Popen(
            command, stdin=other, stdout=other, stderr=other, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(other)
        self.wait_for(self.is_ready)

    def text(self):
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip()

    def is_ready(self):
        line = self.screen.display[self.screen.cursor.y]
        return self.screen.cursor.x == len(PROMPT) and line.startswith(PROMPT)

    def wait_for(self, condition):
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while not condition():
            left = deadline - time.monotonic()
            if left < 0 or not select.select([self.end], [], [], left)[0]:
                sys.exit(f"timeout; the terminal shows:\n{self.text()}")
            self.stream.feed(os.read(self.end, 4096))

    def type(self, command):
        os.write(self.end, command.encode())
        # Wait for the echo, so that the old prompt is not mistaken for the new one.
        self.wait_for(lambda: not self.is_ready())
        os.write(self.end, b"\n")

    def run(self, command):
        self.type(command)
        self.wait_for(self.is_ready)

    def clear(self):
        self.run("clear")


def write_image(path):
    """Writes an archive in the format of docker save, with compressible layers."""
    def add(archive, name, content):
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))

    with tarfile.open(path, "w") as archive:
        layers, digests = [], []
        for megabytes in (48, 31, 12):
            layer = io.BytesIO()
            with tarfile.open(fileobj=layer, mode="w") as files:
                half = os.urandom(megabytes * 500_000)
                add(files, f"opt/{megabytes}", half + bytes(len(half)))
            digests.append("sha256:" + hashlib.sha256(layer.getvalue()).hexdigest())
            layers.append(f"{megabytes}/layer.tar")
            add(archive, layers[-1], layer.getvalue())
        config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": digests}}
        add(archive, "config.json", json.dumps(config).encode())
        manifest = [{"Config": "config.json", "RepoTags": ["extract-video:latest"], "Layers": layers}]
        add(archive, "manifest.json", json.dumps(manifest).encode())


def main(folder, pictures):
    write_image(Path(folder) / "extract-video.tar")
    tool = "ark-catalog-container-tool"
    terminal = Terminal(
        ["unshare", "--user", "--map-root-user", "--mount", "bash", f"{folder}/home.sh", folder]
    )

    for name in ("catalog/extract-gps", "catalog/extract-video"):
        terminal.run(f"{tool} --create-repository {name}")
    terminal.run(f"{tool} --list-repositories")
    terminal.run(f"{tool} --login catalog/extract-vidoe")
    draw(terminal.screen, Path(pictures) / "repositories.svg")

    terminal.clear()
    terminal.type(f"{tool} --push catalog/extract-video:v1 --from docker-archive:extract-video.tar")
    terminal.wait_for(lambda: HALFWAY.search(terminal.text()))
    draw(terminal.screen, Path(pictures) / "push.svg")
    terminal.wait_for(terminal.is_ready)

    terminal.clear()
    terminal.run(f"{tool} --whoami")
    terminal.run(f"{tool} --delete-repository catalog/extract-gps")
    draw(terminal.screen, Path(pictures) / "whoami.svg")
    os.write(terminal.end, b"exit\n")
    terminal.shell.wait()


main(*sys.argv[1:])
