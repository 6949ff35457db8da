# Rows as plain columns: exact, and without a package.

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
