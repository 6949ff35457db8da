"""The process that calls a project's Python functions for `flow`.

Only the standard library is imported here; pandas, Polars and pyarrow are imported when a function needs them. Messages are
frames on private copies of the first two file descriptors, so that whatever a function prints or reads does not reach them:
a header (kind, stream, length) and a payload. Messages are JSON; tables are Arrow IPC streams, or plain columns for functions
that take rows.
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


# Frames ---------------------------------------------------------------------------------------------------------------


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


# Packages -------------------------------------------------------------------------------------------------------------


def need(package, why):
    """Imports a package, or says how to install it."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        if error.name is not None and error.name.split(".")[0] != package.split(".")[0]:
            raise
        raise Problem(missing(package, why)) from None


def missing(package, why):
    return "%s needs the package `%s`, which %s does not have\nhelp: install it: `%s -m pip install %s`%s" % (
        why,
        package,
        sys.executable,
        sys.executable,
        package,
        "" if package != "pyarrow" else "; a function that takes and returns rows (`list[dict]`) needs no package",
    )


def has(package):
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False


# Kinds of objects -----------------------------------------------------------------------------------------------------

#: What a kind is called in messages, and the packages that it needs.
KINDS = {
    "pandas": ("a pandas.DataFrame", ["pandas", "pyarrow"]),
    "polars": ("a polars.DataFrame", ["polars"]),
    "polars.lazy": ("a polars.LazyFrame", ["polars"]),
    "pyarrow": ("a pyarrow.Table", ["pyarrow"]),
    "pyarrow.batch": ("a pyarrow.RecordBatch", ["pyarrow"]),
    "pyarrow.reader": ("a pyarrow.RecordBatchReader", ["pyarrow"]),
    "batches": ("an iterator of pyarrow.RecordBatch", ["pyarrow"]),
    "tables": ("an iterator of pyarrow.Table", ["pyarrow"]),
    "pandas.iterator": ("an iterator of pandas.DataFrame", ["pandas", "pyarrow"]),
    "polars.iterator": ("an iterator of polars.DataFrame", ["polars", "pyarrow"]),
    "rows": ("a list of dictionaries", []),
    "rows.iterator": ("an iterator of dictionaries", []),
}
CLASSES = {
    ("pandas", "DataFrame"): "pandas",
    ("polars", "DataFrame"): "polars",
    ("polars", "LazyFrame"): "polars.lazy",
    ("pyarrow", "Table"): "pyarrow",
    ("pyarrow", "RecordBatch"): "pyarrow.batch",
    ("pyarrow", "RecordBatchReader"): "pyarrow.reader",
}
ITERATORS = {
    "pyarrow.batch": "batches",
    "pyarrow": "tables",
    "pandas": "pandas.iterator",
    "polars": "polars.iterator",
    "row": "rows.iterator",
}
ITERABLE = (collections.abc.Iterator, collections.abc.Iterable, collections.abc.Generator)
LISTS = (list, collections.abc.Sequence, collections.abc.MutableSequence)
DICTS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)


def kind_of(annotation):
    """The kind that an annotation names; None for one that says nothing about tables."""
    if isinstance(annotation, str):
        return kind_of_text(annotation)
    if isinstance(annotation, typing.ForwardRef):
        return kind_of_text(annotation.__forward_arg__)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is getattr(typing, "Annotated", ()):
        return kind_of(arguments[0])
    if origin is typing.Union or origin is getattr(types, "UnionType", ()):
        kinds = [kind_of(argument) for argument in arguments if argument is not type(None)]
        return kinds[0] if kinds else None
    if origin in ITERABLE:
        return ITERATORS.get(kind_of(arguments[0])) if arguments else None
    if origin in LISTS:
        return "rows" if arguments and kind_of(arguments[0]) == "row" else None
    cls = origin if isinstance(origin, type) else annotation
    if isinstance(cls, type):
        if cls in DICTS or issubclass(cls, dict):
            return "row"
        for base in cls.__mro__:
            kind = CLASSES.get((base.__module__.split(".")[0], base.__name__))
            if kind:
                return kind
    return None


def kind_of_text(text):
    """The same for an annotation that cannot be evaluated, as one that is imported for type checkers only."""
    text = text.replace(" ", "").replace("typing.", "").split("|")[0]
    if text.startswith("Optional[") and text.endswith("]"):
        return kind_of_text(text[len("Optional[") : -1])
    for name in ("Iterator", "Iterable", "Generator"):
        if text.startswith(name + "["):
            return ITERATORS.get(kind_of_text(text[len(name) + 1 : -1].split(",")[0]))
    if text.lower().startswith("list["):
        return "rows" if text.lower().startswith("list[dict") else None
    if text.lower().startswith("dict"):
        return "row"
    module, _, name = text.rpartition(".")
    module = {"pd": "pandas", "pl": "polars", "pa": "pyarrow"}.get(module, module.split(".")[0])
    return CLASSES.get((module, name.split("[")[0]))


def annotations(function):
    target = inspect.unwrap(function)
    if isinstance(target, type):
        target = target.__init__
    elif not inspect.isroutine(target) and not hasattr(target, "func"):
        target = getattr(type(target), "__call__", target)
    try:
        return typing.get_type_hints(target, include_extras=False)
    except Exception:
        return dict(getattr(target, "__annotations__", {}))


# Rows as plain columns ------------------------------------------------------------------------------------------------

EPOCH = datetime.date(1970, 1, 1)
EPOCH_TIME = datetime.datetime(1970, 1, 1)
EPOCH_UTC = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
MICROSECOND = datetime.timedelta(microseconds=1)


class Take:
    """Reads buffers one after the other."""

    def __init__(self, payload, start):
        self.view = memoryview(payload)
        self.at = start

    def bytes(self, length):
        found = self.view[self.at : self.at + length]
        self.at += length
        return found

    def numbers(self, code, count):
        out = array.array(code)
        out.frombytes(self.bytes(count * out.itemsize))
        if sys.byteorder == "big":
            out.byteswap()
        return out


def read_column(column, take):
    """The values of one column."""
    kind, count = column["type"], column["length"]
    valid = bytes(take.bytes(count)) if column["nulls"] else None
    if kind == "null":
        values = [None] * count
    elif kind == "bool":
        values = [bool(value) for value in take.bytes(count)]
    elif kind == "int":
        values = take.numbers("q", count).tolist()
    elif kind == "float":
        values = take.numbers("d", count).tolist()
    elif kind in ("string", "binary"):
        ends = take.numbers("q", count).tolist()
        data = bytes(take.bytes(ends[-1] if ends else 0))
        values = [data[start:end] for start, end in zip([0, *ends], ends)]
        if kind == "string":
            values = [value.decode() for value in values]
    elif kind == "date":
        values = [EPOCH + datetime.timedelta(days=days) for days in take.numbers("q", count)]
    elif kind in ("time", "utc"):
        start = EPOCH_UTC if kind == "utc" else EPOCH_TIME
        values = [start + datetime.timedelta(microseconds=micros) for micros in take.numbers("q", count)]
    elif kind == "list":
        ends = take.numbers("q", count).tolist()
        items = read_column(column["children"][0], take)
        values = [items[start:end] for start, end in zip([0, *ends], ends)]
    else:
        names = [child["name"] for child in column["children"]]
        children = [read_column(child, take) for child in column["children"]]
        values = [dict(zip(names, row)) for row in zip(*children)] if children else [{} for _ in range(count)]
    if valid is not None:
        values = [value if there else None for value, there in zip(values, valid)]
    return values


def read_rows(payload):
    """The rows of one block."""
    (length,) = struct.unpack_from("<Q", payload)
    header = json.loads(bytes(memoryview(payload)[8 : 8 + length]))
    take = Take(payload, 8 + length)
    names = [column["name"] for column in header["columns"]]
    columns = [read_column(column, take) for column in header["columns"]]
    if not columns:
        return [{} for _ in range(header["rows"])]
    return [dict(zip(names, row)) for row in zip(*columns)]


def type_name(value):
    cls = type(value)
    return cls.__name__ if cls.__module__ == "builtins" else "%s.%s" % (cls.__module__, cls.__name__)


def scalar(value, where):
    """A value of NumPy or pandas as one of Python, exactly."""
    if type(value).__module__ == "numpy" and hasattr(value, "tolist"):
        kind = value.dtype.kind
        if kind not in "mMV":
            return value.tolist()
        # `tolist` makes numbers of times with nanoseconds.
        if getattr(value, "ndim", 0):
            return list(value)
        if kind == "V" and value.dtype.names:
            return tuple(value)
        plain = value.tolist() if kind == "M" else value
        if isinstance(plain, int):
            exact = value.astype("datetime64[us]")
            plain = exact.tolist()
            if isinstance(plain, int) or exact != value:
                raise Problem(not_a_time(where, value))
        return plain
    if isinstance(value, datetime.datetime):
        if value != value:
            # pandas.NaT is to times what None is to others.
            return None
        if getattr(value, "nanosecond", 0):
            raise Problem(not_a_time(where, value))
    return value


def not_a_time(where, value):
    return (
        "%s holds the time %s, which Python's `datetime` cannot hold\n"
        "help: round it, or return a DataFrame or a pyarrow.Table" % (where, value)
    )


def is_exact_fraction(number):
    try:
        return int(float(number)) == number
    except OverflowError:
        return False


def type_of(values, path):
    """The type of some values, and those of its children: what they are called, and their own."""
    known = [value for value in (scalar(value, "column %s" % path) for value in values) if value is not None]

    def is_all(*classes):
        return all(isinstance(value, classes) for value in known)

    if not known:
        return "null", []
    if is_all(bool):
        return "bool", []
    if is_all(int) and not any(isinstance(value, bool) for value in known):
        for value in known:
            if not -(1 << 63) <= value < 1 << 63:
                raise Problem("column %s holds %d, which does not fit into 64 bits" % (path, value))
        return "int", []
    if is_all(int, float) and not any(isinstance(value, bool) for value in known):
        for value in known:
            if isinstance(value, int) and not is_exact_fraction(value):
                raise Problem("column %s holds fractions and %d, which is no exact fraction" % (path, value))
        return "float", []
    if is_all(str):
        return "string", []
    if is_all(bytes, bytearray, memoryview):
        return "binary", []
    if is_all(datetime.datetime):
        zoned = {value.tzinfo is not None for value in known}
        if len(zoned) > 1:
            raise Problem("column %s holds times with a time zone and times without one" % path)
        return "utc" if zoned.pop() else "time", []
    if is_all(datetime.date) and not any(isinstance(value, datetime.datetime) for value in known):
        return "date", []
    if is_all(list, tuple):
        items = itertools.chain.from_iterable(known)
        return "list", [("item", type_of(list(items), path + "[]"))]
    if is_all(dict):
        names = dict.fromkeys(text_key(key, path) for value in known for key in value)
        return "struct", [(key, type_of([value.get(key) for value in known], "%s.%s" % (path, key))) for key in names]
    kinds = list(dict.fromkeys(type_name(value) for value in known))
    there = ((row, scalar(value, path)) for row, value in enumerate(values))
    first = next(row for row, value in there if value is not None and type_name(value) == kinds[-1])
    raise Problem(
        "column %s holds values of type %s in row %d%s; rows hold booleans, numbers, strings, bytes, dates, times, lists and "
        "dictionaries of these\nhelp: convert them, or return a DataFrame or a pyarrow.Table"
        % (path, kinds[-1], first + 1, "" if len(kinds) == 1 else " and %s before" % kinds[0])
    )


def write_column(name, values, kind, buffers, path=None):
    """The description of one column, whose buffers are appended."""
    path = path or "`%s`" % name
    kind, children = kind
    values = [scalar(value, "column %s" % path) for value in values]
    there = [value is not None for value in values]
    # Of nulls alone, the values are null whatever the bytes say.
    nulls = kind != "null" and not all(there)
    column = {"name": name, "type": kind, "length": len(values), "nulls": nulls, "children": []}
    if nulls:
        buffers.append(bytes(there))

    def numbers(code, numbers):
        out = array.array(code, numbers)
        if sys.byteorder == "big":
            out.byteswap()
        buffers.append(out.tobytes())

    def varied(encode):
        data, ends = bytearray(), []
        for value in values:
            if value is not None:
                data += encode(value)
            ends.append(len(data))
        numbers("q", ends)
        buffers.append(bytes(data))

    if kind == "bool":
        buffers.append(bytes(bool(value) for value in values))
    elif kind == "int":
        numbers("q", [value or 0 for value in values])
    elif kind == "float":
        numbers("d", [0.0 if value is None else float(value) for value in values])
    elif kind == "string":
        varied(lambda value: encoded(value, path))
    elif kind == "binary":
        varied(bytes)
    elif kind in ("time", "utc"):
        start = EPOCH_UTC if kind == "utc" else EPOCH_TIME
        numbers("q", [0 if value is None else (value - start) // MICROSECOND for value in values])
    elif kind == "date":
        numbers("q", [0 if value is None else (value - EPOCH).days for value in values])
    elif kind == "list":
        items, ends = [], []
        for value in values:
            items.extend(value or ())
            ends.append(len(items))
        numbers("q", ends)
        ((item, kind),) = children
        column["children"].append(write_column(item, items, kind, buffers, path + "[]"))
    elif kind == "struct":
        for key, kind in children:
            child = [value.get(key) if value is not None else None for value in values]
            column["children"].append(write_column(key, child, kind, buffers, "%s.%s" % (path, key)))
    return column


def encoded(text, path):
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise Problem("column %s holds %r, which has no form in UTF-8" % (path, text[:50])) from None


def text_key(key, where):
    if not isinstance(key, str):
        raise Problem("%s has the key %r, and names of columns are strings" % (where, key))
    return key


def send_rows(rows, stream, names):
    """Sends rows in blocks. All of them decide about the types of columns. `names` are those of rows that were sent before, in order."""
    for row in rows:
        if not isinstance(row, dict):
            raise Problem("a row is of type %s, expected a dictionary" % type_name(row))
        for key in row:
            names.setdefault(text_key(key, "a row"), None)
    kinds = {name: type_of([row.get(name) for row in rows], "`%s`" % name) for name in names}
    for start in range(0, len(rows) or 1, BLOCK):
        block = rows[start : start + BLOCK]
        buffers = []
        columns = [write_column(name, [row.get(name) for row in block], kind, buffers) for name, kind in kinds.items()]
        header = json.dumps({"rows": len(block), "columns": columns}).encode()
        send(DATA, stream, struct.pack("<Q", len(header)), header, *buffers)


# Arguments ------------------------------------------------------------------------------------------------------------


def load(kind, chunks, shape):
    """A table as an object of some kind. `shape` is called with its rows and columns when they are known."""
    why = "an input as %s" % KINDS[kind][0]
    if kind in ("rows", "rows.iterator"):
        rows = itertools.chain.from_iterable(read_rows(chunk) for chunk in chunks)
        if kind == "rows.iterator":
            return rows
        rows = list(rows)
        shape(len(rows), list(rows[0]) if rows else [])
        return rows
    if kind in ("polars", "polars.lazy"):
        frame = need("polars", why).read_ipc_stream(io.BytesIO(b"".join(chunks)))
        shape(frame.height, ["%s: %s" % pair for pair in frame.schema.items()])
        return frame.lazy() if kind == "polars.lazy" else frame
    pyarrow = need("pyarrow", why)
    importlib.import_module("pyarrow.ipc")
    if kind in ("pyarrow.reader", "batches", "tables", "pandas.iterator", "polars.iterator"):
        reader = pyarrow.ipc.open_stream(Chunks(chunks))
        if kind == "pyarrow.reader":
            return reader
        batches = one_at_least(reader, pyarrow)
        if kind == "batches":
            return batches
        if kind == "tables":
            return (pyarrow.Table.from_batches([batch]) for batch in batches)
        if kind == "pandas.iterator":
            return (batch.to_pandas() for batch in batches)
        polars = need("polars", why)
        return (polars.from_arrow(batch) for batch in batches)
    table = pyarrow.ipc.open_stream(Chunks(chunks)).read_all()
    shape(table.num_rows, ["%s: %s" % (field.name, field.type) for field in table.schema])
    if kind == "pyarrow.batch":
        batches = table.combine_chunks().to_batches()
        return batches[0] if batches else pyarrow.RecordBatch.from_pylist([], schema=table.schema)
    if kind == "pandas":
        need("pandas", why)
        return table.to_pandas()
    return table


def one_at_least(reader, pyarrow):
    """The batches; one without rows of an empty table: a function that passes on what it gets gives its columns then."""
    batch = None
    for batch in reader:
        yield batch
    if batch is None:
        yield pyarrow.RecordBatch.from_pylist([], schema=reader.schema)


# Results --------------------------------------------------------------------------------------------------------------


def of_library(value):
    """The library that an object comes from, and its class, also for a subclass."""
    for cls in type(value).__mro__:
        library = cls.__module__.split(".")[0]
        if library in ("pandas", "polars", "pyarrow"):
            return library, cls.__name__
    return None, None


def arrow_of(value):
    """A schema and batches of a frame or table, by pyarrow; None for an object that is no table."""
    library, name = of_library(value)
    if library == "pandas" and name in ("DataFrame", "Series"):
        pyarrow = need("pyarrow", "a pandas.%s as a result" % name)
        if name == "Series":
            value = value.to_frame()
        # Row numbers are no data; an index with a name is.
        named = [level is not None for level in value.index.names]
        if any(named):
            value = value.reset_index([i for i, there in enumerate(named) if there])
        value = value.reset_index(drop=True)
        columns = [str(column) for column in value.columns]
        if columns != list(value.columns):
            value = value.set_axis(columns, axis=1)
        table = pyarrow.Table.from_pandas(value, preserve_index=False)
    elif library == "pyarrow" and name == "Table":
        table = value
    elif library == "pyarrow" and name == "RecordBatch":
        return value.schema, iter([value])
    elif library == "pyarrow" and name == "RecordBatchReader":
        return value.schema, value
    elif hasattr(value, "__arrow_c_stream__"):
        pyarrow = need("pyarrow", "%s as a result" % type_name(value))
        reader = pyarrow.RecordBatchReader.from_stream(value)
        return reader.schema, reader
    elif hasattr(value, "__arrow_c_array__"):
        pyarrow = need("pyarrow", "%s as a result" % type_name(value))
        batch = pyarrow.record_batch(value)
        return batch.schema, iter([batch])
    else:
        return None
    # Whole tables have chunks of millions of rows, of which several are held at once.
    return table.schema, table.to_batches(max_chunksize=1 << 16)


def send_table(value, stream):
    """Sends a result as a table."""
    library, name = of_library(value)
    if library == "polars" and name == "LazyFrame":
        value = value.collect()
        name = "DataFrame"
    if library == "polars" and name == "DataFrame":
        begin(stream, "arrow")
        sink = Sink(stream)
        value.write_ipc_stream(sink)
        sink.flush()
    elif isinstance(value, (list, tuple)) and all(isinstance(row, dict) for row in value):
        begin(stream, "rows")
        send_rows(value, stream, {})
    elif isinstance(value, collections.abc.Iterator) and library is None:
        send_iterator(value, stream)
    else:
        found = arrow_of(value)
        if found is None:
            raise Problem(no_table(value))
        send_batches(*found, stream)
    send(END, stream)


def no_table(value):
    what = "None" if value is None else "an object of type %s" % type_name(value)
    return (
        "it returned %s, expected a table\nhelp: return a pandas or Polars DataFrame, a pyarrow.Table, anything with "
        "`__arrow_c_stream__`, a list of dictionaries, or an iterator of one of these; a dataset of `type: memory, shape: value` holds any object" % what
    )


def begin(stream, form):
    say({"op": "output", "stream": stream, "form": form})


def send_batches(schema, batches, stream):
    pyarrow = importlib.import_module("pyarrow")
    importlib.import_module("pyarrow.ipc")
    begin(stream, "arrow")
    sink = Sink(stream)
    with pyarrow.ipc.new_stream(sink, schema.remove_metadata()) as writer:
        for batch in batches:
            writer.write(batch)
            sink.flush()
    sink.flush()


def send_iterator(items, stream):
    """Sends what an iterator gives, as it gives it."""
    first = next(items, None)
    if first is None:
        # Columns may be known from elsewhere.
        begin(stream, "rows")
        return send_rows([], stream, {})
    items = itertools.chain([first], items)
    if isinstance(first, dict):
        begin(stream, "rows")
        names = {}
        while True:
            rows = list(itertools.islice(items, BLOCK))
            if not rows:
                return
            send_rows(rows, stream, names)
    library, _ = of_library(first)
    need("pyarrow", "an iterator of %s as a result" % type_name(first))
    found = arrow_of(first)
    if found is None:
        raise Problem("the iterator that it returned gave an object of type %s, expected a table or a row" % type_name(first))
    schema = found[0].remove_metadata()

    def batches():
        for item in items:
            found = arrow_of(item)
            if found is None:
                raise Problem("the iterator that it returned gave an object of type %s after tables" % type_name(item))
            for batch in found[1]:
                batch = batch.replace_schema_metadata(None)
                yield batch if batch.schema.equals(schema) else as_first(batch, schema)

    send_batches(schema, batches(), stream)


def as_first(batch, schema):
    """A batch with the columns of the first one, whose values are the same."""
    pyarrow = importlib.import_module("pyarrow")
    compute = importlib.import_module("pyarrow.compute")
    wanted, found = schema.names, batch.schema.names
    if sorted(wanted) != sorted(found):
        raise Problem("the iterator that it returned gave the columns %s, and %s in its first item" % (", ".join(found), ", ".join(wanted)))
    columns = []
    for at, field in enumerate(schema):
        column = batch.column(at if wanted == found else found.index(field.name))
        here, first = column.type, field.type
        if here != first:
            try:
                same = column.cast(first)
                # A float of this size may have been another integer: pandas makes floats of integers beside a null.
                large = pyarrow.types.is_floating(here) and pyarrow.types.is_integer(first) and compute.max(compute.abs(column)).as_py()
                if large and large >= 1 << 53:
                    raise pyarrow.ArrowInvalid("%r has no digits to spare, so it may have been another integer" % large)
            except pyarrow.ArrowException as error:
                raise Problem(
                    "column `%s` is %s in the first item of the iterator that it returned, and %s in a later one: %s\n"
                    "help: give it one type from the start, or return one table" % (field.name, first, here, error)
                ) from None
            column = same
        columns.append(column)
    return pyarrow.RecordBatch.from_arrays(columns, schema=schema)


def plain(value, path="the value"):
    """A value as JSON has it."""
    value = scalar(value, path)
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        if value != value or value in (float("inf"), float("-inf")):
            raise Problem("%s is %r, which a document cannot hold" % (path, value))
        return value
    if isinstance(value, (list, tuple)):
        return [plain(item, "%s[%d]" % (path, i)) for i, item in enumerate(value)]
    if isinstance(value, dict):
        return {text_key(key, path): plain(item, "%s.%s" % (path, key)) for key, item in value.items()}
    raise Problem("%s is of type %s; a document holds strings, numbers, booleans, lists and mappings" % (path, type_name(value)))


#: The one key of a value that is a pickled object.
PICKLE = "\x1epickle"


def packed(value):
    """An object in memory: as JSON where that gives the same object back, else pickled."""

    def same(part):
        if part is None or type(part) in (bool, int, str):
            return True
        if type(part) is float:
            return part == part and part not in (float("inf"), float("-inf"))
        if type(part) is list:
            return all(map(same, part))
        return type(part) is dict and all(type(key) is str for key in part) and all(map(same, part.values()))

    if same(value) and not (type(value) is dict and PICKLE in value):
        return value
    try:
        return {PICKLE: base64.b64encode(pickle.dumps(value, 5)).decode()}
    except Exception as error:
        raise Problem("an object of type %s cannot be kept in memory: %s" % (type_name(value), error)) from None


def unpacked(value):
    """The object of a value that a function gave in this run; never one of a file."""
    if type(value) is dict and list(value) == [PICKLE]:
        return pickle.loads(base64.b64decode(value[PICKLE]))
    return value


def kedro_dataset(dataset):
    """A dataset of Kedro, for a type that `flow` does not know."""
    io = need("kedro.io", "dataset `%s`" % dataset["name"])
    # Keys that mean something to `flow` or to Kedro-Viz only.
    entry = {key: value for key, value in dataset["entry"].items() if key not in ("layer", "overwrite")}
    if "path" in entry and "filepath" not in entry and "artitioned" not in entry["type"]:
        entry["filepath"] = entry.pop("path")
    try:
        return io.AbstractDataset.from_config(dataset["name"], entry)
    except io.DatasetError as error:
        raise Problem("dataset `%s` of type `%s` cannot be opened: %s" % (dataset["name"], entry["type"], error)) from None


# Calls ----------------------------------------------------------------------------------------------------------------


def resolve(name):
    """The function of a dotted name, and its module."""
    module_name, _, attribute = name.rpartition(".")
    importlib.invalidate_caches()
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and (module_name + ".").startswith(error.name + "."):
            places = ", ".join(dict.fromkeys(shorten(path) or "." for path in sys.path[: len(paths)]))
            raise Problem("there is no module `%s`\nhelp: modules are looked for in %s and in the packages of %s" % (error.name, places, sys.executable)) from None
        raise
    try:
        function = getattr(module, attribute)
    except AttributeError:
        import difflib

        near = difflib.get_close_matches(attribute, [key for key, value in vars(module).items() if callable(value)], 1)
        help = "\nhelp: did you mean `%s.%s`?" % (module_name, near[0]) if near else ""
        where = shorten(getattr(module, "__file__", None) or module_name)
        raise Problem("module `%s` (%s) has no function `%s`%s" % (module_name, where, attribute, help)) from None
    if not callable(function):
        raise Problem("`%s` (%s) is of type %s and cannot be called" % (name, shorten(getattr(module, "__file__", None) or module_name), type_name(function)))
    return function, module


def shorten(path):
    """A path relative to the project, where it is in it."""
    return os.path.relpath(path, root) if path and (path + os.sep).startswith(root + os.sep) else path


def bind(function, name, inputs):
    """What each input is passed as. Raises where the function does not take them."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return None, [item["kind"] or "pyarrow" for item in inputs]
    args = [item["port"] for item in inputs if item["positional"]]
    kwargs = {item["port"]: item["port"] for item in inputs if not item["positional"]}
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as error:
        file, line = place(function)
        raise Problem(
            "`%s` does not take these inputs: %s\nhelp: it is `%s%s`, at %s:%s"
            % (name, str(error).replace("'", "`"), name.rpartition(".")[2], signature, file, line)
        ) from None
    hints = annotations(function)
    of_port, said = {}, {}
    for parameter, value in bound.arguments.items():
        variety = signature.parameters[parameter].kind
        values = value if variety is inspect.Parameter.VAR_POSITIONAL else value.values() if variety is inspect.Parameter.VAR_KEYWORD else [value]
        for port in values:
            of_port[port] = kind_of(hints[parameter]) if parameter in hints else None
            said[port] = parameter, hints.get(parameter)
    kinds = []
    for item in inputs:
        check_annotation(name, function, item, *said[item["port"]], of_port[item["port"]])
        if item["kind"] == "partitions" and of_port.get(item["port"]) not in KINDS:
            kinds.append("partitions")
            continue
        if item["kind"] in ("value", "object", "dataset"):
            if item["kind"] == "dataset" and not has("kedro"):
                raise Problem(missing("kedro-datasets", "a dataset of a type that only Kedro knows, input `%s` of `%s`," % (item["port"], name)))
            kinds.append(item["kind"])
            continue
        kind = of_port.get(item["port"])
        if item["kind"] == "spark" and kind not in KINDS:
            # A frame of Spark, unless the annotation says something else.
            if not has("kedro_datasets"):
                raise Problem(missing("kedro-datasets", "a frame of Spark, input `%s` of `%s`," % (item["port"], name)))
            kinds.append("dataset")
            continue
        kind = kind if kind in KINDS else item["kind"]
        for package in KINDS[kind][1]:
            if not has(package):
                annotated = "has no annotation" if said[item["port"]][1] is None else "has an annotation that names no table"
                why = "says so" if of_port.get(item["port"]) in KINDS else annotated + ", and its dataset decides"
                raise Problem(missing(package, "input `%s` of `%s` is %s (the parameter %s), which" % (item["port"], name, KINDS[kind][0], why)))
        kinds.append(kind)
    return str(signature), kinds


def check_annotation(name, function, item, parameter, annotation, kind):
    """Raises where an annotation names something that the input never is."""
    file, line = place(function)
    if item["kind"] in KINDS and isinstance(annotation, type) and annotation in (bool, int, float, str, bytes):
        is_given, wanted = "a table", annotation.__name__
    elif item["kind"] == "value" and kind in KINDS and not kind.startswith("rows"):
        is_given, wanted = "a value", KINDS[kind][0]
    else:
        return
    raise Problem(
        "input `%s` of `%s` is %s, and its parameter `%s` (%s:%s) is annotated as %s\nhelp: correct the inputs of the node or the annotation"
        % (item["port"], name, is_given, parameter, file, line, wanted)
    )


def place(function):
    """The file and line of a function."""
    target = inspect.unwrap(function)
    target = getattr(target, "func", target)
    try:
        return shorten(inspect.getsourcefile(target)), inspect.getsourcelines(target)[1]
    except (OSError, TypeError):
        return getattr(target, "__module__", "?"), 0


def describe(message):
    function, module = resolve(message["function"])
    signature, kinds = bind(function, message["function"], message["inputs"])
    file, line = place(function)
    return {
        "op": "described",
        "signature": signature,
        "kinds": kinds,
        "file": file,
        "line": line,
        "python": "%d.%d" % sys.version_info[:2],
        "code": code(function, module, message["code"]),
    }


#: Programs of `flow` itself, by their text.
programs = {}


def of_program(text, name):
    """A function of a program that came with a call. Programs keep what they opened."""
    if text not in programs:
        module = types.ModuleType("flow_program_%d" % len(programs))
        module.need, module.Problem = need, Problem
        exec(compile(text, HERE, "exec"), module.__dict__)
        programs[text] = module
    return getattr(programs[text], name)


def call(message):
    if message.get("program") is not None:
        function = of_program(message["program"], message["function"])
    else:
        function, _ = resolve(message["function"])
    shapes = []
    inputs = Inputs(message["tables"])
    args, kwargs = [], {}
    for item in message["inputs"]:
        if item["kind"] == "value":
            value = item["value"]
        elif item["kind"] == "object":
            value = unpacked(item["value"])
        elif item["kind"] == "dataset":
            value = kedro_dataset(item["value"]).load()
        elif item["kind"] == "partitions":
            value = {key: loader(inputs, item, at) for at, key in enumerate(item["keys"])}
        else:

            def shape(rows, columns, port=item["port"]):
                shown = ", ".join(columns[:12]) + (", …" if len(columns) > 12 else "")
                shapes.append("%s: %d rows × %d columns (%s)" % (port, rows, len(columns), shown))

            value = load(item["kind"], inputs.chunks(item["stream"]), shape)
        if item["positional"]:
            args.append(value)
        else:
            kwargs[item["port"]] = value
    value = None
    collect()
    try:
        result = function(*args, **kwargs)
        del args, kwargs, value
        if inspect.iscoroutine(result):
            result = importlib.import_module("asyncio").run(result)
        elif inspect.isasyncgen(result):
            result = from_async(result)
        for output, value in zip(message["outputs"], pick(result, message["outputs"])):
            if output["form"] == "value":
                say({"op": "output", "stream": output["stream"], "form": "value", "value": plain(value)})
            elif output["form"] == "object":
                say({"op": "output", "stream": output["stream"], "form": "value", "value": packed(value)})
            elif output["form"] == "dataset" and not (output["dataset"].get("native") and not is_spark(value)):
                kedro_dataset(output["dataset"]).save(value)
                say({"op": "output", "stream": output["stream"], "form": "saved"})
            elif output["form"] == "partitions":
                send_partitions(value, output, inputs)
            else:
                send_table(value, output["stream"])
            value = None
    except Problem as problem:
        told = partition_of(problem) + str(problem)
        # A function of `flow`'s own has a name that nobody wrote.
        return {"op": "error", "error": told if message.get("program") else "`%s`: %s" % (message["function"], told), "shapes": shapes}
    except BaseException as error:
        return {"op": "error", "error": partition_of(error) + explain(error), "shapes": shapes}
    return {"op": "done"}


def collect():
    """Lets the garbage collector run, without a look at what was imported until now."""
    global collecting
    if not collecting:
        collecting = True
        gc.freeze()
        gc.enable()


def loader(inputs, item, at):
    """What loads one partition when it is called, as in Kedro."""

    def load_partition():
        return load(item["as"], iter(inputs.partition(item["stream"], at)), lambda rows, columns: None)

    return load_partition


def partition_of(error):
    """The partition that an error is about, as the begin of its message."""
    key = getattr(error, "flow_partition", None)
    return "" if key is None else "partition `%s`: " % key


@contextlib.contextmanager
def of_partition(key):
    """An error names the partition."""
    try:
        yield
    except Exception as error:
        with contextlib.suppress(AttributeError):
            error.flow_partition = getattr(error, "flow_partition", key)
        raise


def send_partitions(result, output, inputs):
    """Sends the partitions that a function returned, each when it is there: data, or what gives it when it is called."""
    stream = output["stream"]
    if isinstance(result, collections.abc.Iterator):
        # A generator of pairs or of dictionaries.
        pairs = (pair for item in result for pair in (item.items() if isinstance(item, dict) else [item]))
    elif isinstance(result, dict):
        pairs = sorted(result.items(), key=lambda pair: str(pair[0]))
    else:
        raise Problem("it returned an object of type %s, expected a dictionary with the partitions" % type_name(result))
    say({"op": "output", "stream": stream, "form": "partitions"})

    def give(key, value):
        with of_partition(key):
            say({"op": "partition", "stream": stream, "key": key})
            send_table(value, stream)

    waiting = []
    for key, value in pairs:
        if not isinstance(key, str):
            raise Problem("the result has the partition %r, and partition ids are strings" % (key,))
        if not inputs.is_wanted(stream, key):
            continue
        if callable(value) and not hasattr(value, "__arrow_c_stream__"):
            if waiting or is_async(value):
                waiting.append((key, value))
                continue
            with of_partition(key):
                value = value()
            if inspect.isawaitable(value):
                # The first tells that the others will be awaited too.
                waiting.append((key, value))
                continue
        elif inspect.isawaitable(value):
            waiting.append((key, value))
            continue
        give(key, value)
    if waiting:
        importlib.import_module("asyncio").run(await_partitions(waiting, give, output["workers"], output["timeout"]))
    say({"op": "partitions_end"})


def is_async(function):
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))


async def await_partitions(waiting, give, workers, timeout):
    """Computes some partitions at once. Each is given as soon as it is there."""
    asyncio = importlib.import_module("asyncio")
    places = asyncio.Semaphore(workers)

    async def one(key, value):
        async with places:
            with of_partition(key):
                if callable(value):
                    value = value()
                if inspect.isawaitable(value):
                    value = await within(timeout, value)
            give(key, value)

    tasks = [asyncio.ensure_future(one(key, value)) for key, value in waiting]
    try:
        await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


async def within(timeout, awaitable):
    """What it gives. An error of a function may be a TimeoutError of its own, which is told like any other."""
    asyncio = importlib.import_module("asyncio")
    task = asyncio.ensure_future(awaitable)
    try:
        done, _ = await asyncio.wait({task}, timeout=timeout)
    finally:
        task.cancel()
    if not done:
        await asyncio.gather(task, return_exceptions=True)
        raise Problem("it took longer than %g s; `timeout` under `save_args` sets the limit" % timeout)
    return task.result()


def is_spark(value):
    return any(cls.__module__.startswith("pyspark.") for cls in type(value).__mro__)


def pick(result, outputs):
    """The values of the outputs in what a function returned."""
    if not outputs:
        return []
    if outputs[0]["port"] is not None:
        names = [output["port"] for output in outputs]
        if not isinstance(result, dict):
            raise Problem("it returned an object of type %s, expected a dictionary with %s" % (type_name(result), ", ".join("`%s`" % name for name in names)))
        lacking = [name for name in names if name not in result]
        if lacking:
            keys = ", ".join("`%s`" % key for key in result) or "nothing"
            raise Problem("the dictionary that it returned lacks `%s`; it has %s" % ("`, `".join(lacking), keys))
        return [result[name] for name in names]
    if len(outputs) == 1:
        return [result]
    if not isinstance(result, (list, tuple)):
        raise Problem("it returned an object of type %s, expected a tuple of %d" % (type_name(result), len(outputs)))
    if len(result) != len(outputs):
        raise Problem("it returned %d values, and the node has %d outputs" % (len(result), len(outputs)))
    return result


def from_async(generator):
    """The items of an asynchronous generator."""
    loop = importlib.import_module("asyncio").new_event_loop()
    try:
        while True:
            try:
                yield loop.run_until_complete(generator.__anext__())
            except StopAsyncIteration:
                return
    finally:
        loop.close()


def is_of_frameworks(file):
    """True for code between this process and the project's: this file, Kedro, and what imports modules."""
    kedro = os.sep.join(["", "site-packages", "kedro", ""])
    return file == HERE or file.startswith("<frozen importlib") or kedro in file or file == importlib.__file__


def explain(error):
    """An exception: what it says, then the frames of the project's code and what it calls."""
    told = traceback.TracebackException.from_exception(error)
    seen = set()

    def strip(part):
        if part is None or id(part) in seen:
            return
        seen.add(id(part))
        part.stack[:] = [frame for frame in part.stack if not is_of_frameworks(frame.filename)]
        strip(part.__cause__)
        strip(part.__context__)
        for inner in getattr(part, "exceptions", None) or ():
            strip(inner)

    strip(told)

    def relative(lines):
        text = "".join(lines).rstrip()
        if root == os.sep:
            return text
        return text.replace('"' + root + os.sep, '"').replace("(" + root + os.sep, "(")

    text, last = relative(told.format()), relative(told.format_exception_only())
    head = last.splitlines()[-1] if isinstance(error, SyntaxError) else last
    body = text[: -len(last)].rstrip() if text.endswith(last) else text
    if isinstance(error, SyntaxError):
        body = "\n".join(part for part in [body, *last.splitlines()[:-1]] if part)
    lines = [line for line in body.splitlines() if line != "Traceback (most recent call last):"]
    if len(lines) > 200:
        lines = lines[:100] + ["  … %d lines …" % (len(lines) - 200)] + lines[-100:]
    return "\n".join([head, *lines])


# Fingerprints of code -------------------------------------------------------------------------------------------------


def code(function, module, mode):
    """Digests of what a function's result depends on, by file: without comments, docstrings and the shape of lines."""
    if mode == "none":
        return []
    if mode == "function":
        target = inspect.unwrap(function)
        target = getattr(target, "func", target)
        file = inspect.getsourcefile(target)
        tree = parse(file)
        name = getattr(target, "__qualname__", type(target).__qualname__).split(".")[0]
        parts = [part for part in tree.body if getattr(part, "name", None) == name]
        return [[shorten(file), digest(ast.Module(parts or tree.body, []))]]
    return [[shorten(file), digest(parse(file))] for file in closure(module)]


def parse(file):
    with open(file, "rb") as source:
        return ast.parse(source.read(), file)


def digest(tree):
    for part in ast.walk(tree):
        body = getattr(part, "body", None)
        if isinstance(part, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and body:
            first = body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
                part.body = body[1:] or [ast.Pass()]
    return hashlib.sha256(ast.dump(tree).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def find(name):
    """The file of a module of the project; None for one of a package or of nobody."""
    parts = name.split(".")
    for path in sys.path:
        path = os.path.abspath(path or ".")
        if not (path + os.sep).startswith(root + os.sep) or "site-packages" in path:
            continue
        base = os.path.join(path, *parts)
        for file in (os.path.join(base, "__init__.py"), base + ".py"):
            if os.path.isfile(file):
                return file
    return None


def closure(module):
    """The files of the project that a module imports, directly or not, and its own, sorted."""
    found, todo = {}, [module.__name__]
    while todo:
        name = todo.pop()
        if name in found:
            continue
        parent = name.rpartition(".")[0]
        if parent:
            todo.append(parent)
        file = find(name)
        if file is None and name == module.__name__:
            # A module that is not where its name says, such as one of an installed package.
            file = getattr(module, "__file__", None)
            if file is None or not (file + os.sep).startswith(root + os.sep) or "site-packages" in file:
                file = None
        found[name] = file
        if file is None:
            continue
        package = name if os.path.basename(file) == "__init__.py" else parent
        for part in ast.walk(parse(file)):
            todo.extend(imported(part, package))
    return sorted({file for file in found.values() if file})


def imported(part, package):
    """The names of modules that a part of a program may import."""
    if isinstance(part, ast.Import):
        return [alias.name for alias in part.names]
    if isinstance(part, ast.ImportFrom):
        base = part.module or ""
        if part.level:
            above = package.split(".")
            above = above[: len(above) - part.level + 1]
            base = ".".join([*above, base] if base else above)
        # What is imported from a package may be a module of it.
        return [base, *("%s.%s" % (base, alias.name) for alias in part.names)] if base else []
    if isinstance(part, ast.Call) and part.args and isinstance(part.args[0], ast.Constant) and isinstance(part.args[0].value, str):
        called = getattr(part.func, "attr", getattr(part.func, "id", None))
        if called in ("import_module", "__import__"):
            return [part.args[0].value]
    return []


# The process ----------------------------------------------------------------------------------------------------------


def watch():
    """Ends this process and its children when `flow` is gone: nobody holds the other end of the pipe then."""
    poll = select.poll()
    poll.register(INPUT, 0)
    while True:
        for _, event in poll.poll():
            if event & (select.POLLHUP | select.POLLERR | select.POLLNVAL):
                if not leaving:
                    end()
                return


def leave():
    """Ends the process as the interpreter does, but for taking apart every module, which takes as long as importing a third of them."""
    if any(not thread.daemon and thread is not threading.main_thread() for thread in threading.enumerate()):
        return
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            pass
    os._exit(0)


def widen(descriptor):
    """Makes a pipe hold more, which saves switches between the processes."""
    try:
        import fcntl

        fcntl.fcntl(descriptor, getattr(fcntl, "F_SETPIPE_SZ", 1031), 1 << 20)
    except (ImportError, OSError):
        pass


#: What a message may ask for; the functions are here and in the part about Kedro projects, which follows.
OPERATIONS = {
    "describe": lambda message: describe(message),
    "call": lambda message: call(message),
    "kedro_ask": lambda message: kedro_ask(message),
    "kedro_run": lambda message: kedro_run(message),
    "kedro_give": lambda message: kedro_give(message),
}


def main():
    global root, paths, leaving
    if grouped and hasattr(select, "poll"):
        threading.Thread(target=watch, daemon=True).start()
    widen(INPUT)
    widen(OUTPUT)
    start = json.loads(receive()[2])
    root, paths = start["root"], start["paths"]
    # The first entry is the folder of the program, which has none.
    if sys.path and sys.path[0] in ("", os.getcwd()):
        del sys.path[0]
    sys.path[:0] = paths
    sys.argv[:] = ["flow"]
    say({"op": "hello", "python": list(sys.version_info[:3]), "executable": sys.executable})
    while True:
        kind, _, payload = receive()
        if kind != MESSAGE:
            continue
        message = json.loads(payload)
        if message["op"] == "exit":
            leaving = True
            return leave()
        try:
            answer = OPERATIONS[message["op"]](message)
        except Problem as problem:
            answer = {"op": "error", "error": str(problem), "shapes": []}
        except BaseException as error:
            answer = {"op": "error", "error": explain(error), "shapes": []}
        del message, payload
        try:
            os.chdir(root)
        except OSError:
            pass
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError, AttributeError):
                pass
        try:
            # Everything that the function wrote is before this line.
            os.write(2, b"\n\x1eflow\x1e\n")
        except OSError:
            pass
        say(answer)
