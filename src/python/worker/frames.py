"""The process that calls a project's Python functions for `flow`.

Only the standard library is imported here; pandas, Polars and pyarrow are imported when a function needs them. Messages are
frames on private copies of the first two file descriptors, so that whatever a function prints or reads does not reach them:
a header (kind, stream, length) and a payload. Messages are JSON; tables are Arrow IPC streams, or plain columns for functions
that take rows.

The files of this folder are parts of one program, joined by `worker.rs`: this one comes first and owns the imports, the state of the
process and the frames.
"""

import array
import ast
import atexit
import base64
import collections.abc
import contextlib
import datetime
import gc
import hashlib
import importlib
import importlib.util
import inspect
import io
import itertools
import json
import os
import pickle
import select
import signal
import struct
import sys
import threading
import traceback
import types
import typing

HERE = "<flow worker>"
HEADER = struct.Struct("<HHIQ")
MESSAGE, DATA, END = 1, 2, 3
#: Bytes of one frame of a table.
FRAME = 1 << 20
#: Rows of one block of plain rows.
BLOCK = 8192

INPUT = os.dup(0)
OUTPUT = os.dup(1)
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
os.dup2(2, 1)
PID = os.getpid()
reader = os.fdopen(INPUT, "rb", 1 << 16)
#: One frame is written at a time: callables for partitions may be called by threads of the function while a result is sent.
writing = threading.Lock()
root = os.getcwd()
#: True once the garbage collector runs: while packages are imported it finds nothing, and takes a tenth of the time.
collecting = False
gc.disable()
#: The node whose function is called, for messages.
node = ""
leaving = False
#: True if the process group is this process's own.
grouped = hasattr(os, "getpgid") and os.getpgid(0) == PID


class Problem(Exception):
    """A mistake in a project, told without a traceback."""


def end():
    """Ends this process and all that functions started, when `flow` is gone: nobody else would end them."""
    if grouped:
        os.killpg(0, signal.SIGKILL)
    os._exit(0)


def send(kind, stream, *parts):
    """Writes one frame."""
    if os.getpid() != PID:
        # A child that a function forked and that returned from it.
        os._exit(0)
    views = [memoryview(part).cast("B") for part in parts]
    views.insert(0, memoryview(HEADER.pack(kind, stream, 0, sum(len(view) for view in views))))
    try:
        with writing:
            while views:
                written = os.writev(OUTPUT, views[:64])
                while views and written >= len(views[0]):
                    written -= len(views.pop(0))
                if views:
                    views[0] = views[0][written:]
    except BrokenPipeError:
        end()


def say(message):
    """Writes a message."""
    send(MESSAGE, 0, json.dumps(message).encode())


def receive():
    """Reads one frame: kind, stream, payload."""
    header = reader.read(HEADER.size)
    if len(header) < HEADER.size:
        end()
    kind, stream, _, length = HEADER.unpack(header)
    payload = reader.read(length)
    if len(payload) < length:
        end()
    return kind, stream, payload


class Inputs:
    """The tables of a call, which come one after the other. One that is not asked for yet is kept."""

    def __init__(self, count):
        self.kept = [[] for _ in range(count)]
        self.ended = [False] * count
        # Callables may be called by threads of the function.
        self.lock = threading.RLock()

    def chunks(self, stream):
        """The payloads of one table, as they come."""
        while True:
            with self.lock:
                while not self.kept[stream] and not self.ended[stream]:
                    self.take()
                if not self.kept[stream]:
                    return
                chunk = self.kept[stream].pop(0)
            yield chunk

    def take(self):
        """Reads one frame; returns a message."""
        kind, of, payload = receive()
        if kind == MESSAGE:
            return json.loads(payload)
        if kind == END:
            self.ended[of] = True
        else:
            self.kept[of].append(payload)
        return None

    def partition(self, stream, at):
        """The payloads of one partition, which comes when it is asked for."""
        with self.lock:
            self.ended[stream] = False
            say({"op": "load", "stream": stream, "at": at})
            return list(self.chunks(stream))

    def is_wanted(self, stream, key):
        """True if a partition is to be computed: one that is there already, by the same work, is not."""
        with self.lock:
            say({"op": "want", "stream": stream, "key": key})
            while True:
                message = self.take()
                if message is not None:
                    return message["wanted"]


class Chunks(io.RawIOBase):
    """The payloads of one table as a file. What is read is a view of a payload, unless it spans several."""

    def __init__(self, chunks):
        self.chunks = chunks
        self.rest = memoryview(b"")

    def readable(self):
        return True

    def more(self):
        """True if there is more to read."""
        while not self.rest:
            chunk = next(self.chunks, None)
            if chunk is None:
                return False
            self.rest = memoryview(chunk)
        return True

    def take(self, size):
        found, self.rest = self.rest[:size], self.rest[size:]
        return found

    def readinto(self, target):
        found = self.take(len(target)) if self.more() else b""
        target[: len(found)] = found
        return len(found)

    def read(self, size=-1):
        if size is None or size < 0:
            return self.readall()
        if size and self.more() and len(self.rest) >= size:
            return self.take(size)
        found = bytearray()
        while len(found) < size and self.more():
            found += self.take(size - len(found))
        return found


class Sink(io.RawIOBase):
    """A file whose content is sent as the frames of one output."""

    #: Parts that are smaller are copied.
    SMALL = 4096

    def __init__(self, stream):
        self.stream = stream
        self.parts, self.size = [], 0

    def writable(self):
        return True

    def write(self, data):
        view = memoryview(data).cast("B")
        # Other objects may be written to again before they are sent.
        fixed = len(view) >= self.SMALL and (type(data) is bytes or of_library(data) == ("pyarrow", "Buffer"))
        for start in range(0, len(view), FRAME):
            part = view[start : start + FRAME]
            if fixed:
                self.parts.append(part)
            elif self.parts and type(self.parts[-1]) is bytearray:
                self.parts[-1] += part
            else:
                self.parts.append(bytearray(part))
            self.size += len(part)
            if self.size >= FRAME:
                self.flush()
        return len(view)

    def flush(self):
        if not self.closed and self.parts:
            parts, self.parts, self.size = self.parts, [], 0
            send(DATA, self.stream, *parts)

    def close(self):
        # What was not flushed belongs to a call that failed, and this may be called during a later one: by the collector.
        self.parts = []
        super().close()
