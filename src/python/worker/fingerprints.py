# Fingerprints of code: what a function is, and what of the project it uses.


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
