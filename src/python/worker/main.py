# The process: requests of `flow`, one after the other.


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
