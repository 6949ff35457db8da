# Kedro projects: loaded as `kedro run` would, their datasets, and the definitions that a function of theirs reaches.

#: The project, once it was loaded.
project = None


class Project:
    """A Kedro project: its pipelines, its parameters and its catalog, as `kedro run` would have them, without hooks."""

    def __init__(self, start):
        need("kedro", "a Kedro project")
        quiet(loading=True)
        with plain_logging():
            startup = importlib.import_module("kedro.framework.startup")
            framework = importlib.import_module("kedro.framework.project")
        metadata = startup.bootstrap_project(root)
        framework.validate_settings()
        self.package = metadata.package_name
        self.settings = framework.settings
        self.params = start["params"]
        self.save_version = start["save_version"]
        env = start["env"] or os.environ.get("KEDRO_ENV") or None
        self.loader = self.settings.CONFIG_LOADER_CLASS(
            conf_source=os.path.join(root, self.settings.CONF_SOURCE), env=env, runtime_params=self.params or None, **self.settings.CONFIG_LOADER_ARGS
        )
        hooks = importlib.import_module("kedro.framework.hooks.manager")._NullPluginManager()
        kind = self.settings.CONTEXT_CLASS
        taken = inspect.signature(kind).parameters
        # The name of before Kedro 1.0.
        params = "runtime_params" if "runtime_params" in taken else "extra_params"
        self.context = kind(
            package_name=self.package,
            project_path=root,
            config_loader=self.loader,
            env=env,
            hook_manager=hooks,
            **{params: self.params or None},
        )
        self.pipelines = dict(framework.pipelines)
        if not self.pipelines:
            raise Problem("`register_pipelines` of `%s.pipeline_registry` gives no pipelines" % self.package)
        self.env = env or getattr(self.loader, "default_run_env", None)
        self.made = None
        # Which nodes are meant by a name.
        self.nodes = {(name, node.name): node for name, pipeline in self.pipelines.items() for node in pipeline.nodes}
        #: What is in memory and has no entry in the catalog, and how many nodes read each.
        self.memory, self.readers = {}, {}
        for node in {node.name: node for node in self.nodes.values()}.values():
            for name in dict.fromkeys(node.inputs):
                self.readers[name] = self.readers.get(name, 0) + 1
        self.entries = config(self, "catalog")
        quiet(loading=True)

    @property
    def catalog(self):
        """Kedro's catalog, made when it is needed: a node that is up to date needs none."""
        if self.made is None:
            # Before Kedro 1.0 the context reads the setting itself.
            takes = "catalog_class" in inspect.signature(self.context._get_catalog).parameters
            kind = {"catalog_class": self.settings.DATA_CATALOG_CLASS} if takes else {}
            quiet(loading=True)
            self.made = self.context._get_catalog(save_version=self.save_version, **kind)
            quiet()
        return self.made

    def load(self, name):
        if name in self.memory:
            if self.readers.get(name) == 1:
                # Nobody else sees what the node does to it.
                return self.memory.pop(name)
            return copied(self.memory[name])
        dataset = get(self.catalog, name)
        if hasattr(dataset, "release") and not is_memory(dataset):
            # A version that was the last one may not be it any more.
            dataset.release()
        return self.catalog.load(name)

    def save(self, name, value, alone=False):
        """Saves an output; true if it is in memory now. `alone` if it is the only output, so that no other is a part of it."""
        dataset = get(self.catalog, name)
        if is_memory(dataset) and name not in self.entries:
            self.memory[name] = value if alone else copied(value)
            return True
        self.catalog.save(name, value)
        return is_memory(dataset)

    def release(self, name):
        self.memory.pop(name, None)
        dataset = get(self.catalog, name)
        if is_memory(dataset):
            dataset.release()


def copied(value):
    """What a dataset in memory of Kedro gives of a value: a copy that may be changed, where there can be one."""
    memory = importlib.import_module("kedro.io.memory_dataset")
    return memory._copy_with_mode(value, copy_mode=memory._infer_copy_mode(value))


def get(catalog, name):
    """A dataset; one in memory where the catalog does not have it."""
    io = importlib.import_module("kedro.io")
    if not hasattr(catalog, "get"):
        # Before Kedro 1.0.
        try:
            return catalog._get_dataset(name)
        except io.DatasetNotFoundError:
            dataset = io.MemoryDataset()
            catalog.add(name, dataset)
            return dataset
    taken = inspect.signature(catalog.get).parameters
    dataset = catalog.get(name, fallback_to_runtime_pattern=True) if "fallback_to_runtime_pattern" in taken else catalog.get(name)
    if dataset is None:
        dataset = io.MemoryDataset()
        catalog[name] = dataset
    return dataset


def is_memory(dataset):
    return any(cls.__name__ in ("MemoryDataset", "SharedMemoryDataset") and cls.__module__.startswith("kedro.") for cls in type(dataset).__mro__)


@contextlib.contextmanager
def plain_logging():
    """Kedro's plain logging where nobody asked for another: lines get the name of their node, and there is no terminal for colours."""
    own = [os.path.join(root, "conf", "logging" + suffix) for suffix in (".yml", ".yaml")]
    spec = importlib.util.find_spec("kedro.framework.project")
    path = os.path.join(os.path.dirname((spec and spec.origin) or ""), "default_logging.yml")
    if os.environ.get("KEDRO_LOGGING_CONFIG") or any(map(os.path.isfile, own)) or not os.path.isfile(path):
        yield
        return
    os.environ["KEDRO_LOGGING_CONFIG"] = path
    try:
        yield
    finally:
        del os.environ["KEDRO_LOGGING_CONFIG"]


def quiet(loading=False):
    """What Kedro says about each dataset is what `flow` says about each node."""
    import logging

    for name in ("kedro", "kedro.framework.project", "kedro.io.data_catalog"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Warnings of packages while the project is loaded are no warnings of a node.
    logging.getLogger("py.warnings").setLevel(logging.ERROR if loading else logging.NOTSET)


def open_project(start):
    global project
    if project is None:
        project = Project(start)
    return project


def kedro_ask(message):
    """Everything that `flow` needs to know about the project."""
    found = open_project(message["start"])
    catalog = config(found, "catalog")
    listed = [{"name": name, "nodes": [kedro_node(found, node, catalog) for node in pipeline.nodes]} for name, pipeline in found.pipelines.items()]
    return {
        "op": "kedro",
        "package": found.package,
        "env": found.env,
        "python": "%d.%d" % sys.version_info[:2],
        "catalog": as_json(catalog),
        "parameters": as_json(dict(found.context.params)),
        "credentials": as_json(config(found, "credentials")),
        "pipelines": listed,
        "hooks": hooks_of(found),
        # A session of Spark is of one process.
        "single": any(name in sys.modules for name in ("pyspark.sql", "snowflake.snowpark", "ibis"))
        or any(isinstance(entry, dict) and str(entry.get("type", "")).split("datasets.")[-1].startswith("spark.") for entry in catalog.values()),
        "conf": [os.path.relpath(path, root) for path in conf_folders(found)],
    }


def config(found, kind):
    """A part of the configuration; an empty one where there is none."""
    try:
        return dict(found.loader[kind])
    except Exception as error:
        if type(error).__name__ == "MissingConfigException":
            return {}
        raise


def conf_folders(found):
    source = os.path.join(root, found.settings.CONF_SOURCE)
    names = [getattr(found.loader, "base_env", "base"), found.env]
    return [os.path.join(source, name) for name in names if name]


def as_json(value):
    """A value as JSON: what it has no word for is told by its text, so that a change of it is seen."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        return value if -(1 << 63) <= value < 1 << 63 else str(value)
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else str(value)
    if isinstance(value, (list, tuple, set, frozenset)):
        items = sorted(value, key=str) if isinstance(value, (set, frozenset)) else value
        return [as_json(item) for item in items]
    if isinstance(value, dict) or isinstance(value, collections.abc.Mapping):
        return {str(key): as_json(item) for key, item in value.items()}
    if hasattr(value, "model_dump"):
        return as_json(value.model_dump())
    if hasattr(value, "__dataclass_fields__"):
        return {name: as_json(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, type) or inspect.isfunction(value):
        return "%s.%s" % (value.__module__, value.__qualname__)
    text = repr(value)
    return type_name(value) if " at 0x" in text else text


def kedro_node(found, node, catalog):
    function = node.func
    bound = []
    while hasattr(function, "func") and hasattr(function, "keywords"):
        bound.append(repr(as_json([list(function.args), function.keywords])))
        function = function.func
    target = inspect.unwrap(function)
    where = target if inspect.isroutine(target) or isinstance(target, type) else type(target)
    module, name = getattr(where, "__module__", "?"), getattr(where, "__qualname__", type(target).__name__)
    file, line = place(where)
    first, holder = name.split(".")[0], module_of(module)
    # A function without a name of its own, as a lambda, may be anywhere in its module.
    roots = [(module, first if holder is not None and first in holder.defines else None)]
    for dataset in [*node.inputs, *node.outputs]:
        entry = catalog.get(dataset)
        kind = str(entry.get("type", "")) if isinstance(entry, dict) else ""
        if kind.startswith(found.package + "."):
            roots.append(tuple(kind.rsplit(".", 1)))
    return {
        "name": node.name,
        "function": "%s.%s" % (module, name) + "".join(bound),
        "file": file or "?",
        "line": line,
        "inputs": list(dict.fromkeys(node.inputs)),
        "outputs": list(node.outputs),
        # Which argument gets which input.
        "arguments": as_json(node._inputs),
        "results": as_json(node._outputs),
        "tags": sorted(node.tags),
        "namespace": node.namespace,
        "confirms": list(node.confirms),
        "code": reached(roots),
    }


def hooks_of(found):
    """The hooks that `kedro run` would call."""
    names = []
    for hook in found.settings.HOOKS:
        methods = [name for name in dir(hook) if hasattr(getattr(hook, name, None), "kedro_impl") or hasattr(getattr(hook, name, None), "kedro_hook")]
        kind = hook if isinstance(hook, type) else type(hook)
        names.append("`%s.%s`%s" % (kind.__module__, kind.__qualname__, " (%s)" % ", ".join(methods) if methods else ""))
    try:
        from importlib.metadata import entry_points

        found_points = entry_points()
        points = found_points.select(group="kedro.hooks") if hasattr(found_points, "select") else found_points.get("kedro.hooks", [])
        disabled = set(found.settings.DISABLE_HOOKS_FOR_PLUGINS)
        plugins = {point.dist.metadata["Name"] if getattr(point, "dist", None) else point.name for point in points}
        names.extend("`%s` (a plugin)" % name for name in sorted(plugins - disabled))
    except ImportError:
        pass
    return names


def kedro_run(message):
    """Runs one node: its inputs are loaded, its outputs saved, by Kedro's catalog."""
    found = open_project(message["start"])
    for name in message["release"]:
        found.release(name)
    node = found.nodes[message["pipeline"], message["node"]]
    shapes, values = [], {}
    try:
        inputs = Inputs(len(message["given"]))
        for stream, name in enumerate(message["given"]):
            found.save(name, pickle.loads(b"".join(inputs.chunks(stream))), alone=True)
        for name in node.inputs:
            values[name] = found.load(name)
            shape = getattr(values[name], "shape", None)
            if isinstance(shape, tuple) and len(shape) == 2 and not name.startswith("params:") and all(isinstance(size, int) for size in shape):
                shapes.append("%s: %d rows × %d columns" % (name, *shape))
        collect()
        results = node.run(values)
        values.clear()
        held = {}
        items = results.items()
        if results and inspect.isgeneratorfunction(inspect.unwrap(node.func)):
            # Each part is saved as it comes.
            items = interleaved(results)
        for name, value in items:
            held[name] = found.save(name, value, alone=len(node.outputs) == 1)
            value = None
        del results, items
        for name in node.confirms:
            found.catalog.confirm(name)
        for stream, name in enumerate(node.outputs):
            say({"op": "output", "stream": stream, "form": "held" if held.get(name, True) else "saved"})
    except Problem as problem:
        return {"op": "error", "error": str(problem), "shapes": shapes}
    except BaseException as error:
        return {"op": "error", "error": explain(error), "shapes": shapes}
    return {"op": "done"}


def interleaved(results):
    streams = {name: iter(stream) for name, stream in results.items()}
    while streams:
        for name in list(streams):
            try:
                value = next(streams[name])
            except StopIteration:
                del streams[name]
                continue
            yield name, value


def kedro_give(message):
    """Sends an object that is in memory here, for another process."""
    name = message["name"]
    value = open_project(message["start"]).load(name)
    try:
        data = pickle.dumps(value, 5)
    except Exception as error:
        raise Problem(
            "dataset `%s` is in the memory of another process, and an object of type %s cannot be sent there: %s\n"
            "help: give `%s` an entry in the catalog, or run with `--jobs 1`" % (name, type_name(value), error, name)
        ) from None
    sink = Sink(0)
    sink.write(data)
    sink.flush()
    send(END, 0)
    return {"op": "done"}


#: Modules of the project by name: their file, and what their statements define and use.
modules = {}


class Module:
    """The top of a module of the project: which statements define a name, and which run whatever is asked for."""

    def __init__(self, name, file):
        self.name, self.file = name, file
        self.package = name if os.path.basename(file) == "__init__.py" else name.rpartition(".")[0]
        self.tree = parse(file)
        self.defines, self.always, self.runs = {}, [], []
        used = {part.id for part in ast.walk(self.tree) if isinstance(part, ast.Name)}
        # Names that are asked for by their text cannot be seen.
        self.dynamic = bool(used & {"globals", "eval", "exec", "vars"})
        for at, part in enumerate(self.tree.body):
            if isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                names = [part.name]
            elif isinstance(part, ast.Assign) and all(isinstance(target, ast.Name) for target in part.targets):
                names = [target.id for target in part.targets]
            elif isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
                names = [part.target.id]
            elif isinstance(part, (ast.Import, ast.ImportFrom)):
                names = [alias.asname or alias.name.split(".")[0] for alias in part.names]
                self.dynamic |= "*" in names and bool(imported(part, self.package)) and find(imported(part, self.package)[0]) is not None
                # Whatever is used of it, it is run.
                self.runs.extend(imported(part, self.package))
            elif isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant):
                continue
            else:
                self.always.append(at)
                continue
            for name in names:
                self.defines.setdefault(name, []).append(at)


def module_of(name):
    if name not in modules:
        file = find(name)
        modules[name] = Module(name, file) if file else None
    return modules[name]


def reached(roots):
    """Digests by file of the definitions in the project that these depend on, without comments and docstrings."""
    # The statements of each module, and the names that it imports.
    statements, names, seen, todo = {}, {}, set(), list(roots)
    while todo:
        name, wanted = todo.pop()
        module = module_of(name)
        if module is None or (name, wanted) in seen:
            continue
        seen.add((name, wanted))
        if name not in statements:
            statements[name], names[name] = set(), set()
            # A package is run before what is in it, and what a module imports is run.
            todo.extend((other, "") for other in [name.rpartition(".")[0], *module.runs] if other)
        if module.dynamic or wanted is None:
            new = set(range(len(module.tree.body)))
        else:
            new = set(module.defines.get(wanted, ())) | set(module.always)
        for at in new:
            part = module.tree.body[at]
            if isinstance(part, (ast.Import, ast.ImportFrom)):
                only = wanted if wanted in module.defines and not module.dynamic else None
                for alias in part.names:
                    if only is None or (alias.asname or alias.name.split(".")[0]) == only:
                        names[name].add("%s %s %s" % (getattr(part, "module", None), alias.name, alias.asname))
                        todo.append(leads_to(module, part, alias))
                continue
            if at in statements[name]:
                continue
            statements[name].add(at)
            for inner in ast.walk(part):
                if isinstance(inner, ast.Name):
                    todo.append((name, inner.id))
                elif isinstance(inner, (ast.Import, ast.ImportFrom)):
                    todo.extend(leads_to(module, inner, alias) for alias in inner.names)
                else:
                    todo.extend((called, None) for called in imported(inner, module.package))
    found = []
    for name in sorted(statements):
        module = modules[name]
        body = [module.tree.body[at] for at in sorted(statements[name])]
        if body or names[name]:
            code = digest(ast.Module(body, []))
            found.append([shorten(module.file), hashlib.sha256("\n".join([code, *sorted(names[name])]).encode()).hexdigest()[:32]])
    return sorted(found)


def leads_to(module, part, alias):
    """What an imported name is: a definition in another module, or all of a module."""
    if isinstance(part, ast.Import):
        return alias.name, None
    base = (imported(part, module.package) or [""])[0]
    inner = "%s.%s" % (base, alias.name)
    if alias.name == "*" or module_of(inner) is not None:
        return (base, None) if alias.name == "*" else (inner, None)
    return base, alias.name
