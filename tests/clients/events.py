"""How the Python clients talk to the tests: options as JSON in argv[1], JSON lines on stdout, and the end of
stdin as the order to stop."""

import json
import sys
import threading

OPTIONS = json.loads(sys.argv[1])
"""The JSON object this client was called with."""


def emit(event: str, **details) -> None:
    """Prints one JSON line."""
    print(json.dumps({"event": event, **details}), flush=True)


def until_stopped() -> threading.Event:
    """An event that is set at `stop` or at the end of stdin."""
    stopped = threading.Event()

    def read():
        for line in sys.stdin:
            if line.strip() == "stop":
                break
        stopped.set()

    threading.Thread(target=read, daemon=True).start()
    return stopped


def failing(main) -> None:
    """Runs `main`; what it raises is printed as `failed`, and ends the process with 1."""
    try:
        main()
    except Exception as error:
        emit("failed", message=f"{type(error).__name__}: {error}")
        sys.exit(1)
