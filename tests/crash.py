"""Kills writers of checkpoints at each of their calls and at many file sizes, and reports what they leave behind.

A script, so that its patches, limits and kills stay out of the tests' process: `python crash.py FOLDER` prints one JSON
object, writer -> report. Each trial forks a child that writes over an old file; the parent never writes or dies.

Four ways to go, since no single one sees every writer:
- kill: SIGKILL before, after and (for writes, with half the bytes out) during each Python call that touches the file;
- limit: the kernel kills at a given file size, which also stops writers that do not go through Python;
- full: the same limit as an error, as a full disk gives it;
- fail: an error at each Python call in turn.
"""

from __future__ import annotations

import builtins
import ctypes
import errno
import io
import json
import os
import resource
import shutil
import signal
import stat
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from vvae.checkpoint import load_weights, read_file, save_weights

OLD = {"conv.weight": torch.full((5, 7), 1.0), "conv.bias": torch.arange(5.0)}
NEW = {"conv.weight": torch.full((9, 11), 2.0), "conv.bias": torch.arange(9.0)}
SPECS = {'{"is": "old"}': OLD, '{"is": "new"}': NEW}


class Calls:
    """The calls of one writer in a folder: counts them, and stops at number `at`, in one of four ways."""

    def __init__(self, folder: str, at: int = -1, how: str = "") -> None:
        self.folder, self.at, self.how = folder, at, how
        self.log: list[tuple[str, int]] = []

    def run(self, kind: str, inode: int, act: Callable[[], Any], half: Callable[[], Any] | None = None) -> Any:
        how = self.how if len(self.log) == self.at else ""
        self.log.append((kind, inode))
        if how == "during" and half is not None:
            half()
        if how == "fail":
            raise OSError(errno.EIO, "Input/output error")
        if how in ("before", "during"):
            os.kill(os.getpid(), signal.SIGKILL)
        result = act()
        if how == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    def install(self) -> None:
        """Replace the calls of this process (a child that will not live on)."""
        real_open = builtins.open
        builtins.open = io.open = lambda name, *rest, **named: self._open(real_open, name, *rest, **named)
        for name in ("replace", "rename", "unlink", "remove", "link", "truncate"):
            self._patch_path(name)
        for name in ("fsync", "fdatasync", "write", "ftruncate", "close"):
            self._patch_handle(name)
        self._patch_os_open()

    def _mine(self, name: Any) -> bool:
        return isinstance(name, (str, os.PathLike)) and os.fspath(name).startswith(self.folder)

    def _open(self, real: Callable[..., Any], name: Any, *rest: Any, **named: Any) -> Any:
        if not self._mine(name):
            return real(name, *rest, **named)
        return File(self.run("open", 0, lambda: real(name, *rest, **named)), self)

    def _patch_os_open(self) -> None:
        real = os.open
        os.open = lambda name, *rest, **named: (
            self.run("open", 0, lambda: real(name, *rest, **named)) if self._mine(name) else real(name, *rest, **named)
        )

    def _patch_path(self, name: str) -> None:
        real = getattr(os, name)

        def call(path: Any, *rest: Any, **named: Any) -> Any:
            return self.run(name, os.stat(path).st_ino, lambda: real(path, *rest, **named))

        setattr(os, name, call)

    def _patch_handle(self, name: str) -> None:
        real = getattr(os, name)

        def call(handle: int, *rest: Any) -> Any:
            found = os.fstat(handle)
            kind = f"{name} folder" if stat.S_ISDIR(found.st_mode) else name
            half = (lambda: real(handle, rest[0][: len(rest[0]) // 2])) if name == "write" else None
            return self.run(kind, found.st_ino, lambda: real(handle, *rest), half)

        setattr(os, name, call)


class File:
    """An open file whose write, flush and close are counted."""

    def __init__(self, real: Any, calls: Calls) -> None:
        self.real, self.calls, self.inode = real, calls, os.fstat(real.fileno()).st_ino

    def write(self, data: Any) -> Any:
        def half() -> None:
            self.real.write(data[: len(data) // 2])
            self.real.flush()

        return self.calls.run("write", self.inode, lambda: self.real.write(data), half)

    def flush(self) -> Any:
        return self.calls.run("flush", self.inode, self.real.flush)

    def close(self) -> Any:
        return self.calls.run("close", self.inode, self.real.close)

    def fileno(self) -> int:
        return int(self.real.fileno())

    def __enter__(self) -> File:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def writers(complete: Path) -> dict[str, Callable[[str], Any]]:
    """vvae's writer, and others that all leave a good file when nothing interrupts them."""
    content, (tensors, metadata) = complete.read_bytes(), read_file(complete)

    def beside(path: str, sync: bool) -> None:
        with open(path + ".tmp", "wb") as file:
            file.write(content)
            file.flush()
            if sync:
                os.fsync(file.fileno())

    def straight(path: str) -> None:
        with open(path, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())

    def native(path: str) -> None:
        libc = ctypes.PyDLL(None)
        libc.fopen.restype = ctypes.c_void_p
        file = ctypes.c_void_p(libc.fopen(path.encode(), b"wb"))
        libc.fwrite(content, ctypes.c_size_t(1), ctypes.c_size_t(len(content)), file)
        libc.fclose(file)

    def unsynced(path: str) -> None:
        beside(path, sync=False)
        os.replace(path + ".tmp", path)

    def removing(path: str) -> None:
        beside(path, sync=True)
        os.remove(path)
        os.rename(path + ".tmp", path)

    return {
        "vvae": lambda path: save_weights(path, NEW, '{"is": "new"}'),
        "save_file": lambda path: safetensors.torch.save_file(tensors, path, metadata),
        "straight": straight,
        "native": native,
        "unsynced": unsynced,
        "removing": removing,
    }


class Bench:
    """One writer in one folder, made anew for each trial."""

    def __init__(self, folder: Path, old: bytes, writer: Callable[[str], Any]) -> None:
        self.folder, self.old, self.writer = folder, old, writer
        self.path = folder / "model.safetensors"

    def trial(self, prepare: Callable[[Calls], Any], at: int = -1, how: str = "") -> dict[str, Any]:
        """Run the writer over the old file in a child. What it left: state, files, calls, the error or the signal."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        self.path.write_bytes(self.old)
        read, write = os.pipe()
        if (child := os.fork()) == 0:
            self._child(write, Calls(str(self.folder), at, how), prepare)
        os.close(write)
        with open(read) as answer:
            told = json.loads(answer.read() or "{}")
        _, status = os.waitpid(child, 0)
        died = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        return {"state": self.state(), "files": len(os.listdir(self.folder)), "signal": died, **told}

    def _child(self, answer: int, calls: Calls, prepare: Callable[[Calls], Any]) -> None:
        say, leave = os.write, os._exit
        told: dict[str, Any] = {}
        try:
            prepare(calls)
            self.writer(str(self.path))
        except Exception as error:
            told = {"error": type(error).__name__, "text": str(error), "trace": traceback.format_exc()}
        say(answer, json.dumps({"calls": calls.log, **told}).encode())
        leave(0)

    def state(self) -> str:
        """ "old" or "new" where the path holds that checkpoint whole, else what is wrong with it."""
        try:
            spec, tensors = load_weights(self.path)
        except ValueError as error:
            return str(error)
        whole = all(torch.equal(tensors[name], tensor) for name, tensor in SPECS[spec].items())
        return json.loads(spec)["is"] if whole else "mixed"


def limited(size: int, deadly: bool) -> Callable[[Calls], None]:
    def prepare(_: Calls) -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL if deadly else signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return prepare


def report(bench: Bench, size: int) -> dict[str, Any]:
    """All trials of one writer: the undisturbed one, and those in each of the ways to go."""
    calm = bench.trial(Calls.install)
    calls = range(len(calm["calls"]))
    sizes = [*range(0, size, 61), size - 1]
    return {
        "calm": calm,
        "kill": [bench.trial(Calls.install, at, how) for at in calls for how in ("before", "during", "after")],
        "fail": [bench.trial(Calls.install, at, "fail") for at in calls],
        "limit": [bench.trial(limited(limit, deadly=True)) for limit in sizes],
        "full": [bench.trial(limited(limit, deadly=False)) for limit in sizes[::4]],
    }


def main(folder: Path) -> dict[str, Any]:
    old, new = folder / "old.safetensors", folder / "new.safetensors"
    for path, (spec, tensors) in zip((old, new), SPECS.items(), strict=True):
        save_weights(path, tensors, spec)
    benches = {name: Bench(folder / name, old.read_bytes(), writer) for name, writer in writers(new).items()}
    return {name: report(bench, new.stat().st_size) for name, bench in benches.items()}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
