# Tables: as arguments of a function, and as what it returns.


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
