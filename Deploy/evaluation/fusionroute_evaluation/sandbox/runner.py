"""What runs inside the sandbox: one process with the generated code, another one with the test that calls it.

Both speak JSON, a line each, over sockets. The process with the code never holds the test or an expected value: it is
asked for values, and whoever knows the right ones compares them elsewhere.
"""

import builtins
import json

from values import Unencodable, decode, encode

MAXIMUM_LINE = 4 << 20


class Channel:
    """Lines over a socket. Whatever comes is checked by those who read."""

    def __init__(self, socket):
        self.socket = socket
        self.buffer = bytearray()

    def send(self, message):
        self.socket.sendall(json.dumps(message).encode() + b"\n")

    def receive(self):
        """The next message; None at the end."""
        while (end := self.buffer.find(b"\n")) < 0:
            if len(self.buffer) > MAXIMUM_LINE:
                raise ValueError("a line is too long")
            data = self.socket.recv(1 << 16)
            if not data:
                return None
            self.buffer += data
        line = bytes(self.buffer[:end])
        del self.buffer[: end + 1]
        return json.loads(line)


def describe(error):
    """A short text of an exception of hostile code, which may fail to have one."""
    try:
        return f"{type(error).__name__}: {error}"[:200]
    except BaseException:
        return "an exception without a text"


def serve_candidate(socket):
    """Loads code, then answers calls of its functions."""
    channel = Channel(socket)
    request = channel.receive()
    namespace = {"__name__": "candidate", "__builtins__": builtins}
    before = set(namespace)
    try:
        # What a test's setup has the code may need. The setup may need the code too: then it fails here, and runs after it.
        exec(compile(request.get("setup", ""), "<setup>", "exec"), namespace)
    except Exception:
        pass
    try:
        exec(compile(request["code"], "<answer>", "exec"), namespace)
    except BaseException as error:
        channel.send({"error": describe(error)})
        return
    channel.send(
        {"defines": [n for n in namespace if isinstance(n, str) and n not in before and callable(namespace[n])]}
    )
    while (request := channel.receive()) is not None:
        if "test" in request:
            channel.send(run_shared(namespace, request))
            return
        try:
            function = namespace[request["call"]]
            arguments = decode(request["arguments"])
            value = function(*arguments, **decode(request["keywords"]))
            try:
                reply = {"value": encode(value)}
            except Unencodable as error:
                reply = {"opaque": str(error)}
            reply |= changes(request["arguments"], arguments)
        except BaseException as error:
            reply = {"error": describe(error), "kind": type(error).__name__}
        channel.send(reply)


def changes(before, arguments):
    """What a call made of its arguments, for a test that looks at them afterwards; nothing where they are as they were."""
    try:
        after = encode(arguments)
    except Unencodable:
        return {}
    return {} if after == before else {"arguments": after}


def run_shared(namespace, request):
    """A test whose arguments cannot cross between processes, beside the code: such as an instance of its class."""
    try:
        tested = {name: namespace[name] for name in request["names"]}
        exec(compile(request["setup"], "<setup>", "exec"), namespace)
        namespace.update(tested)
        exec(compile(request["test"], "<test>", "exec"), namespace)
    except BaseException as error:
        return {"passed": False, "reason": describe(error), "token": request["token"]}
    return {"passed": True, "reason": "", "token": request["token"]}


class NeedsSharing(BaseException):
    """The test passes something that cannot leave its process."""


class Opaque:
    """A result that could not leave its process; it equals nothing."""

    def __eq__(self, other):
        return False

    __hash__ = None


class Functions:
    """The functions of the process with the code."""

    def __init__(self, socket, code, setup):
        self.channel = Channel(socket)
        self.channel.send({"code": code, "setup": setup})
        reply = self.channel.receive() or {"error": "the code ended the process"}
        if not isinstance(reply, dict) or "error" in reply:
            raise RuntimeError(str(reply.get("error"))[:200] if isinstance(reply, dict) else "no reply")
        self.names = [n for n in reply.get("defines", ()) if isinstance(n, str)]

    def __getitem__(self, name):
        def function(*arguments, **keywords):
            try:
                message = {"call": name, "arguments": encode(list(arguments)), "keywords": encode(keywords)}
            except Unencodable:
                raise NeedsSharing from None
            self.channel.send(message)
            reply = self.channel.receive()
            if not isinstance(reply, dict):
                raise RuntimeError("the code ended the process")
            if "arguments" in reply:
                change(arguments, decode(reply["arguments"]))
            if "value" in reply:
                return decode(reply["value"])
            if "opaque" in reply:
                return Opaque()
            kind = getattr(builtins, str(reply.get("kind")), None)
            known = isinstance(kind, type) and issubclass(kind, Exception)
            raise (kind if known else RuntimeError)(str(reply.get("error"))[:200])

        function.__name__ = name
        return function


def change(arguments, after):
    """Has the test's arguments be what the call made of its own."""
    if not isinstance(after, list) or len(after) != len(arguments):
        raise RuntimeError("not the arguments of the call")
    for own, other in zip(arguments, after):
        if type(own) is not type(other):
            continue
        if isinstance(own, (list, bytearray)):
            own[:] = other
        elif isinstance(own, (dict, set)):
            own.clear()
            own.update(other)


def serve_test(socket, candidate):
    """Runs a trusted test against the process with the code."""
    channel = Channel(socket)
    request = channel.receive()
    try:
        functions = Functions(candidate, request["code"], request["setup"])
        namespace = {"__name__": "test"}
        # What the test itself is written with (abs, set, …) is not the answer's to replace.
        given = [n for n in functions.names if n in request["names"] or not hasattr(builtins, n)]
        for name in given:
            namespace[name] = functions[name]
        before = dict(namespace)
        exec(compile(request["setup"], "<setup>", "exec"), namespace)
        # What the setup has made is the test's.
        given = [n for n in given if namespace.get(n) is before[n]]
        for name in request["names"] or given:
            if name not in functions.names:
                raise NameError(f"name '{name}' is not defined")
            namespace[name] = functions[name]
        exec(compile(request["test"], "<test>", "exec"), namespace)
    except NeedsSharing:
        channel.send({"share": True})
    except BaseException as error:
        channel.send({"passed": False, "reason": describe(error)})
    else:
        channel.send({"passed": True, "reason": ""})
