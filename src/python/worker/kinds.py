# Kinds of objects that functions take: how they are called, which packages they need, and what an annotation asks for.


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
