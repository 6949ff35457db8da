# Calls: inputs as they are asked for, outputs as they come, partitions one by one or at once.


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
