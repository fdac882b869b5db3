"""Hostile code does no harm and counts as wrong."""

import ast
import errno
import json
import os
import platform
import subprocess
import sys
import tempfile
import unittest
from collections import deque
from decimal import Decimal
from fractions import Fraction

from fusionroute_evaluation.graders import Grader
from fusionroute_evaluation.sandbox import Limits, Sandbox, SandboxUnavailable
from fusionroute_evaluation.sandbox.values import decode

QUICK = Limits(wall_seconds=1.0, cpu_seconds=1)

# What generated code must never get at. A list of its own, with the kernel's numbers, so that an entry that the sandbox
# lost or has a wrong number for is noticed. Numbers: (x86_64, aarch64); None where there is no such call.
FORBIDDEN = {
    "clone": (56, 220), "fork": (57, None), "vfork": (58, None), "clone3": (435, 435),
    "execve": (59, 221), "execveat": (322, 281), "socket": (41, 198), "socketpair": (53, 199),
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "pidfd_open": (434, 434), "pidfd_getfd": (438, 438), "mount": (165, 40), "umount2": (166, 39),
    "pivot_root": (155, 41), "chroot": (161, 51), "unshare": (272, 97), "setns": (308, 268),
    "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430), "mount_setattr": (442, 442),
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219), "bpf": (321, 280),
    "perf_event_open": (298, 241), "userfaultfd": (323, 282), "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426), "io_uring_register": (427, 427), "init_module": (175, 105),
    "finit_module": (313, 273), "kexec_load": (246, 104), "reboot": (169, 142), "swapon": (167, 224),
    "shmget": (29, 194), "msgget": (68, 186), "semget": (64, 190), "mq_open": (240, 180),
    "memfd_create": (319, 279), "memfd_secret": (447, 447), "open_by_handle_at": (304, 265),
    "ioctl": (16, 29), "personality": (135, 92), "seccomp": (317, 277), "prctl": (157, 167),
}
COLUMNS = {"x86_64": 0, "aarch64": 1}

# Gives [result, errno] for each number of a system call. All arguments are -1, with which none of them does anything.
CALL_EACH = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
def f(numbers):
    found = []
    for number in numbers:
        ctypes.set_errno(0)
        result = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(-1)] * 6)
        found.append([result, ctypes.get_errno()])
    return found
"""

# Looks for a value as code under test could: among all objects, and in the memory around them, which also holds some of
# what was let go of. What it looks for must not stand in its own text.
SEARCH = r"""
import ctypes, gc, os, re, sys
libc = ctypes.CDLL(None)

reading, writing = os.pipe()

def objects():
    # What calls the function is asked by its frame, of which Python does not keep track while it runs.
    found, frame = gc.get_objects(), sys._getframe(2)
    while frame:
        found.append(frame.f_locals)
        frame = frame.f_back
    inner = gc.get_referents(*found)
    # Nor does it of dictionaries and tuples of plain values.
    deeper = gc.get_referents(*[o for o in inner if type(o) in (dict, tuple) and not gc.is_tracked(o)])
    return {id(o): o for o in found + inner + deeper}

def in_memory(pattern):
    # Through a pipe: a page that is not there is an error and no crash. One buffer, as copies would be met again.
    seen, overlap = set(), 64
    buffer = bytearray(overlap + 4096)
    place = memoryview(buffer)[overlap:]
    def is_read(page):
        if page in seen or libc.write(writing, ctypes.c_void_p(page), 4096) != 4096:
            return False
        return os.readv(reading, [place]) == 4096
    for page in sorted({at & -4096 for at in objects()}):
        if page in seen:
            continue
        while is_read(page - 4096):
            page -= 4096
        while is_read(page):
            seen.add(page)
            found = pattern.search(buffer)
            if found:
                return found[0]
            buffer[:overlap] = buffer[-overlap:]
            page += 4096
"""


def processes():
    """The numbers of all processes of this machine."""
    return {int(name) for name in os.listdir("/proc") if name.isdigit()}


def descends(pid, ancestor):
    """Whether a running process was started by `ancestor` or by one of its own."""
    while pid > 1:
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
                state, parent = file.read().rpartition(")")[2].split()[:2]
        except OSError:
            return False
        # What was killed may still wait for its parent.
        if state == "Z":
            return False
        pid = int(parent)
        if pid == ancestor:
            return True
    return False


class SandboxTests(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.sandbox = Sandbox(QUICK)
        cls.sandbox.start()

    @classmethod
    def tearDownClass(cls):
        cls.sandbox.close()

    def result(self, code, *arguments, limits=None):
        """The one result of f(arguments): ("value", v) or ("error", text)."""
        outcome = self.sandbox.call(code, "f", [list(arguments)], limits)
        self.assertEqual(len(outcome.results), 1)
        return outcome.results[0]

    def assertStillWorks(self):
        self.assertEqual(self.result("def f(a): return a + 1", 1), ("value", 2))

    def test_values_come_back_as_they_are(self):
        for value in (
            None,
            True,
            7,
            -(1 << 200),
            1.5,
            float("inf"),
            "a\u2028\ud800",
            [1, [2]],
            (1, (2,)),
            {1, 2},
            b"x",
            frozenset([1]),
            {"a": [1], 2: (3,)},
            2 + 3j,
            range(3),
            Fraction(-1, 3),
            Decimal("1.50"),
            deque([1, (2,)]),
            {"a": 1}.keys(),
            {"a": 1}.items(),
        ):
            kind, back = self.result("def f(a): return a", value)
            self.assertEqual((kind, back, type(back)), ("value", value, type(value)))
        kind, back = self.result("def f(a): return {2: a, 1: a}.values()", [5])
        self.assertEqual((kind, list(back)), ("value", [[5], [5]]))

    def test_subclasses_are_the_plain_values_that_they_equal(self):
        for base, plain in (("str", "'red'"), ("int", "7"), ("float", "1.5")):
            code = f"import enum\nclass C({base}, enum.Enum):\n  ONE = {plain}\ndef f(a): return C.ONE"
            self.assertEqual(self.result(code, 0), ("value", ast.literal_eval(plain)))
        forged = "class I(int):\n  def __int__(self): return 3\n  def bit_length(self): return 1\ndef f(a): return I(5)"
        self.assertEqual(self.result(forged, 0), ("value", 5))

    def test_python_has_its_modules(self):
        modules = (
            "__future__ argparse array ast asyncio base64 binascii bisect calendar cmath codecs collections colorsys "
            "concurrent.futures contextlib contextvars copy csv dataclasses datetime decimal difflib doctest enum fnmatch "
            "fractions functools glob graphlib hashlib heapq hmac html html.parser inspect io ipaddress itertools json keyword "
            "locale logging math numbers operator pathlib pickle platform pprint queue random re reprlib sched secrets shlex "
            "statistics string struct tempfile textwrap threading timeit tokenize traceback types typing unicodedata unittest "
            "unittest.mock urllib.parse uuid warnings weakref xml.etree.ElementTree zlib"
        ).split()
        code = "import importlib\ndef f(name): importlib.import_module(name)"
        outcome = self.sandbox.call(code, "f", [[name] for name in modules])
        missing = [name for name, result in zip(modules, outcome.results) if result != ("value", None)]
        self.assertEqual((missing, outcome.reason), ([], ""))
        names = "ascii latin_1 cp1252 utf_7 utf_8 utf_8_sig utf_16 utf_16_le utf_32 unicode_escape punycode idna".split()
        texts = self.sandbox.call("def f(name): return 'abc'.encode(name).decode(name)", "f", [[name] for name in names])
        self.assertEqual([result for result in texts.results if result != ("value", "abc")], [])
        self.assertEqual(self.result("import codecs\ndef f(a): return codecs.encode(a, 'rot13')", "abc"), ("value", "nop"))
        self.assertEqual(self.result("import codecs\ndef f(a): return codecs.encode(a, 'hex')", b"abc"), ("value", b"616263"))

    def test_nothing_of_pythons_settings_gets_in(self):
        with tempfile.TemporaryDirectory() as folder:
            for name in ("heapq", "random", "json", "sitecustomize", "usercustomize"):
                with open(f"{folder}/{name}.py", "w", encoding="utf-8") as file:
                    file.write("import builtins\nbuiltins.shadowed = True\n")
            names = ("PYTHONPATH", "PYTHONHOME", "PYTHONUSERBASE", "PYTHONSTARTUP", "PYTHONHASHSEED")
            before, here = dict(os.environ), os.getcwd()
            try:
                os.environ.update(dict.fromkeys(names, folder), PYTHONOPTIMIZE="1")
                os.chdir(folder)
                with Sandbox(QUICK) as sandbox:
                    code = "import builtins, sys\ndef f(): return [hasattr(builtins, 'shadowed'), sys.path, sys.flags.optimize]"
                    self.assertEqual(sandbox.call(code, "f", [[]]).results, [("value", [False, [], 0])])
            finally:
                os.chdir(here)
                os.environ.clear()
                os.environ.update(before)

    def test_sets_are_in_the_same_order_in_each_process(self):
        order = "def f(words): return list(set(words))"
        words = [f"word {n}" for n in range(30)]
        found = set()
        for _ in range(3):
            with Sandbox(QUICK) as sandbox:
                found.add(repr(sandbox.call(order, "f", [[words]]).results))
        self.assertEqual(len(found), 1)

    def test_other_values_and_endless_ones_are_refused(self):
        for body in ("object()", "f", "open", "(i for i in iter(int, 1))", "[[]] * 10**6"):
            self.assertEqual(self.result(f"def f(a): return {body}", 0)[0], "error", body)
        self.assertEqual(self.result("def f(a):\n x = []\n x.append(x)\n return x", 0)[0], "error")
        self.assertStillWorks()

    def test_an_endless_loop_is_ended(self):
        for code in (
            "def f(a):\n while True: pass",
            "while True: pass",
            "import time\ndef f(a): time.sleep(99)",
            "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\nwhile True: pass",
        ):
            kind, why = self.result(code, 0)
            self.assertEqual(kind, "error")
            self.assertIn(why, ("took too long", "used up its CPU time", "killed"), code)
        self.assertStillWorks()

    def test_no_process_can_be_made(self):
        before = processes()
        for body in (
            "os.fork()",
            "os.execv('/bin/sh', ['sh'])",
            "os.posix_spawn('/bin/sh', ['sh'], {})",
            "threading.Thread(target=print).start()",
        ):
            code = f"import os, threading\ndef f(a):\n return [{body}, 1][1]"
            self.assertEqual(self.result(code, 0)[0], "error", body)
        # Reports failure by its result.
        self.assertNotEqual(self.result("import os\ndef f(a): return os.system('true')", 0), ("value", 0))
        self.result("import os\ndef f(a):\n while True:\n  try: os.fork()\n  except OSError: pass", 0)
        self.assertStillWorks()
        self.assertEqual({p for p in processes() - before if descends(p, self.sandbox._process.pid)}, set())

    def test_a_great_allocation_fails(self):
        for body in ("bytearray(10 << 30)", "[0] * (10 << 27)", "'x' * (10 << 30)"):
            self.assertEqual(self.result(f"def f(a): return len({body})", 0)[0], "error", body)
        self.assertEqual(self.result("def f(a):\n x = []\n while True: x.append(bytearray(1 << 20))", 0)[0], "error")
        self.assertStillWorks()

    def test_the_file_system_is_empty_and_cannot_be_written(self):
        self.assertEqual(self.result("import os\ndef f(a): return os.listdir('/')", 0), ("value", []))
        with tempfile.NamedTemporaryFile() as file:
            for body in (
                f"open({file.name!r}).read()",
                f"os.remove({file.name!r})",
                "open('/x', 'w')",
                "open('/tmp/x', 'w')",
                "open('/etc/passwd').read()",
                "os.mkdir('/x')",
                "open('/proc/1/mem')",
                "shutil.rmtree('/', ignore_errors=False)",
                "os.mknod('/null')",
                "os.symlink('/', '/x')",
                "open('/dev/null')",
                "os.chroot('/')",
            ):
                kind, _ = self.result(f"import os, shutil\ndef f(a): return [{body}, 1][1]", 0)
                self.assertEqual(kind, "error", body)
            self.assertTrue(os.path.exists(file.name))
        self.assertStillWorks()

    def test_there_is_no_network(self):
        for code in (
            "import socket\ndef f(a): return socket.socket().fileno()",
            "import socket\ndef f(a): return socket.create_connection(('1.1.1.1', 53), 1).fileno()",
            "import _socket\ndef f(a): return _socket.socket(1, 1).fileno()",
        ):
            self.assertEqual(self.result(code, 0)[0], "error")
        self.assertStillWorks()

    def test_the_ways_around_python_meet_the_kernel(self):
        escape = (
            "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
            "def f(name, *a):\n"
            " a = [x.encode() if isinstance(x, str) else x for x in a]\n"
            " ctypes.set_errno(0)\n"
            " return [getattr(libc, name)(*a), ctypes.get_errno()]"
        )
        # Calls that are allowed work this way.
        self.assertEqual(self.result(escape, "getpid"), ("value", [1, 0]))
        # Without the filter these would do what they say, or fail in another way.
        for call in (
            ("unshare", 0x10000000),
            ("socket", 2, 1, 0),
            ("fork",),
            ("shmget", 0, 1 << 20, 0o1600),
            ("memfd_create", "x", 0),
            ("personality", 0x40000),
        ):
            self.assertEqual(self.result(escape, *call), ("value", [-1, errno.EPERM]), call)
        # There is no such user in its namespace.
        self.assertEqual(self.result(escape, "setuid", 0), ("value", [-1, errno.EINVAL]))
        for code in (
            "def f(a): return __import__('os').system('touch /tmp/escaped')",
            "def f(a):\n c = [c for c in ().__class__.__base__.__subclasses__() if c.__name__ == 'Popen']\n"
            " return c[0](['/bin/sh']).pid",
        ):
            self.assertNotEqual(self.result(code, 0), ("value", 0))
        self.assertFalse(os.path.exists("/tmp/escaped"))
        self.assertStillWorks()

    @unittest.skipUnless(platform.machine() in COLUMNS, "there is no filter for this processor")
    def test_each_forbidden_call_is_refused_by_the_filter(self):
        column = COLUMNS[platform.machine()]
        numbers = {name: row[column] for name, row in FORBIDDEN.items() if row[column] is not None}
        if platform.machine() == "x86_64":
            # The same calls have other numbers too.
            numbers["fork, x32"] = 0x40000000 + 57
        refused = [-1, errno.EPERM]
        kind, found = self.result(CALL_EACH, list(numbers.values()))
        self.assertEqual((kind, dict(zip(numbers, found))), ("value", dict.fromkeys(numbers, refused)))
        # The kernel itself refuses some of these with EPERM, as their caller has no capabilities. So again, outside,
        # over a filter that answers in the kernel's place, with an error of its own for whatever begins with -1.
        code = (
            "import ctypes, json, struct, sys\n"
            "from fusionroute_evaluation.sandbox import isolation\n"
            "kernel = [(0x20, 0, 0, 16), (0x15, 0, 1, 0xFFFFFFFF), (6, 0, 0, 0x50000 | 99), (6, 0, 0, 0x7FFF0000)]\n"
            "lines = ctypes.create_string_buffer(b''.join(struct.pack('=HBBI', *line) for line in kernel))\n"
            "header = ctypes.create_string_buffer(struct.pack('@HP', len(kernel), ctypes.addressof(lines)))\n"
            "isolation.prctl(isolation.PR_SET_NO_NEW_PRIVS, 1)\n"
            "isolation.prctl(isolation.PR_SET_SECCOMP, 2, ctypes.c_void_p(ctypes.addressof(header)))\n"
            f"{CALL_EACH}"
            "isolation.filter_system_calls()\n"
            "print(json.dumps(f(json.loads(sys.argv[1]))))"
        )
        # One that is allowed shows that the kernel's answer can be told from the filter's.
        numbers["close"] = (3, 57)[column]
        done = subprocess.run(
            [sys.executable, "-c", code, json.dumps(list(numbers.values()))],
            env={"PYTHONPATH": os.pathsep.join(sys.path), "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            timeout=60,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        wanted = {name: [-1, 99] if name == "close" else refused for name in numbers}
        self.assertEqual(dict(zip(numbers, json.loads(done.stdout))), wanted)

    def test_it_is_alone_and_nobody(self):
        code = (
            "import os\ndef f(a):\n"
            " return [os.getpid(), os.getppid(), os.uname().nodename, dict(os.environ), os.getuid() != 0]"
        )
        self.assertEqual(self.result(code, 0), ("value", [1, 0, "sandbox", {}, True]))
        # Its only open files are /dev/null three times and the line to the grader.
        code = (
            "import os\ndef f(a):\n n = []\n for i in range(1024):\n  try: os.fstat(i)\n  except OSError: continue\n"
            "  n.append(i)\n return n"
        )
        self.assertEqual(self.result(code, 0), ("value", [0, 1, 2, 3]))

    def test_great_output_is_cut_off(self):
        few = Limits(wall_seconds=5, cpu_seconds=4, output_bytes=1 << 20)
        kind, _ = self.result("import os\ndef f(a):\n while True: os.write(3, b'x' * 65536)", 0, limits=few)
        self.assertEqual(kind, "error")
        self.assertEqual(self.result("def f(a):\n print('x' * 10**7)\n return 1", 0), ("value", 1))
        self.assertStillWorks()

    def test_crashes_are_errors(self):
        for code in (
            "import ctypes\ndef f(a): return ctypes.string_at(0)",
            "import os\ndef f(a): os._exit(0)",
            "import sys\ndef f(a): sys.exit(0)",
            "raise SystemExit(0)",
            "def f(a): return f(a)",
            "import sys\nsys.setrecursionlimit(10**9)\ndef f(a): return f(a)",
            "def f(a: return",
            "x = 1",
        ):
            self.assertEqual(self.result(code, 0)[0], "error", code)
        self.assertStillWorks()

    def test_signals_reach_nobody_else(self):
        self.assertStillWorks()
        keeper = self.sandbox._process.pid
        # The first process of a namespace is not ended by its own signals, and "all others" are none there.
        alive, nobody = ("value", "alive"), ("error", "ProcessLookupError: [Errno 3] No such process")
        for target, wanted in (("0", alive), ("-1", nobody), ("os.getpid()", alive), ("os.getppid()", alive)):
            code = f"import os\ndef f(a):\n os.kill({target}, 9)\n return 'alive'\nos.kill(0, 9)"
            self.assertEqual(self.result(code, 0), wanted, target)
        self.assertStillWorks()
        self.assertEqual(self.sandbox._process.pid, keeper)

    def test_nothing_stays_for_the_next_code(self):
        self.result("import builtins, math\nbuiltins.len = lambda x: 42\nmath.pi = 3\ndef f(a): return 0", 0)
        self.assertEqual(
            self.result("import math\ndef f(a): return [len(a), math.pi > 3]", "abc"), ("value", [3, True])
        )

    def test_it_runs_for_a_plain_user_or_says_why_not(self):
        code = (
            "from fusionroute_evaluation.sandbox import Sandbox, SandboxUnavailable\n"
            "try:\n with Sandbox() as s: print(s.call('def f(): return 5', 'f', [[]]).results)\n"
            "except SandboxUnavailable as e: print('refused', e)"
        )
        user = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
        path = next((p for p in ("/usr/bin/python3", sys.executable) if os.access(p, os.X_OK)), None)
        with tempfile.TemporaryDirectory() as folder:
            # A checkout below a home directory is none that others can read.
            os.chmod(folder, 0o755)
            subprocess.run(
                ["cp", "-r", os.path.dirname(os.path.dirname(__file__)) + "/fusionroute_evaluation", folder], check=True
            )
            done = subprocess.run(
                [path, "-c", code],
                env={"PYTHONPATH": folder, "PATH": "/usr/bin:/bin"},
                cwd="/",
                capture_output=True,
                text=True,
                timeout=60,
                **user,
            )
        # On machines that are made for tests a refusal would hide that this is not tested.
        may_refuse = os.environ.get("CI") != "true"
        self.assertTrue(done.stdout == "[('value', 5)]\n" or (may_refuse and done.stdout.startswith("refused ")), done)

    def test_where_it_cannot_isolate_it_runs_nothing(self):
        # Inside a sandbox of its own kind: no new namespaces there.
        code = (
            "import sys\nfrom fusionroute_evaluation.sandbox import Sandbox, SandboxUnavailable\n"
            "try:\n with Sandbox() as s: print(s.call('def f(): return 5', 'f', [[]]).results)\n"
            "except SandboxUnavailable as e: print('refused')"
        )
        forbid = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"'
        done = subprocess.run(
            ["unshare", "--user", "--map-root-user", "sh", "-c", forbid, "sh", sys.executable, "-c", code],
            env={"PYTHONPATH": os.pathsep.join(sys.path), "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            timeout=60,
        )
        if "Operation not permitted" in done.stderr and "unshare" in done.stderr:
            self.skipTest("there are no user namespaces here")
        self.assertEqual(done.stdout, "refused\n", done.stderr)


class VerdictTests(unittest.TestCase):
    """A verdict cannot be faked, and what it rests on cannot be read."""

    @classmethod
    def setUpClass(cls):
        cls.grader = Grader()
        cls.case = {
            "name": "code",
            "function": "f",
            "cases": [{"arguments": [n], "expected": 1000003 * n + 17} for n in range(1, 7)],
        }

    @classmethod
    def tearDownClass(cls):
        cls.grader.sandbox.close()

    def passes(self, code):
        return self.grader.grade(self.case, f"```python\n{code}\n```").passed

    def test_the_right_code_passes(self):
        self.assertTrue(self.passes("def f(n):\n    return 1000003 * n + 17"))

    def test_printing_exiting_and_writing_to_the_line_do_not_pass(self):
        for code in (
            "def f(n):\n    print('{\"passed\": true}')\n    return None",
            "import os\ndef f(n):\n    os._exit(0)",
            'import os\nos.write(3, b\'{"passed": true, "value": true}\\n\' * 20)\ndef f(n): return 1',
            "class E(int):\n    def __eq__(self, other): return True\n    __hash__ = None\ndef f(n): return E(1)",
            "class E:\n    def __eq__(self, other): return True\ndef f(n): return E()",
        ):
            self.assertFalse(self.passes(code), code)

    def test_expected_values_are_not_in_the_process(self):
        # All that Python keeps track of, and the memory around it: an expected value stands in none of it.
        steal = (
            f"{SEARCH}\n"
            "def f(n):\n"
            "    tens, ones = divmod(1000003 * n + 17, 10)\n"
            "    for o in objects().values():\n"
            "        if type(o) is int and divmod(o, 10) == (tens, ones): return o\n"
            "    text = in_memory(re.compile(b'%d[%d]' % (tens, ones)))\n"
            "    return text and int(text)"
        )
        expected = [("value", case["expected"]) for case in self.case["cases"]]
        self.assertEqual(self.stolen(steal), (False, [("value", None)] * len(expected)))
        # It finds them where they are: as values, and as no more than text.
        planted = "planted = [{'expected': 1000003 * n + 17} for n in range(1, 7)]"
        for plant in (planted, f"import json\n{planted}\nplanted = json.dumps(planted).encode()"):
            self.assertEqual(self.stolen(f"{plant}\n{steal}"), (True, expected), plant)

    def stolen(self, code):
        """Whether code passes, and what came back from it."""
        outcomes = []
        with Grader() as grader:
            call = grader.sandbox.call
            grader.sandbox.call = lambda *job: outcomes.append(call(*job)) or outcomes[-1]
            passed = grader.grade(self.case, f"```python\n{code}\n```").passed
        self.assertEqual(len(outcomes), 1)
        return passed, outcomes[0].results

    def test_a_test_is_not_in_the_process_with_the_code(self):
        peek = f"{SEARCH}\ndef f(n): return bool(in_memory(re.compile(b'a-word-of-the-test-onl[y]')))"
        test = "secret = 'a-word-of-the-test-only'\nassert f(1) is "
        with Sandbox() as sandbox:
            for code, is_found in ((peek, False), (f"planted = 'a-word-of-the-test-only'\n{peek}", True)):
                outcome = sandbox.test(code, f"{test}{is_found}", names=["f"])
                self.assertTrue(outcome.passed, (is_found, outcome.reason))

    def test_a_test_cannot_be_fooled_by_the_code_that_it_tests(self):
        test = "def check(candidate):\n    assert candidate(2) == 4\n    assert candidate(3) == 9\ncheck(f)"
        with Sandbox(QUICK) as sandbox:
            self.assertTrue(sandbox.test("def f(n): return n * n", test, names=["f"]).passed)
            for code in (
                "class E:\n    def __eq__(self, o): return True\ndef f(n): return E()",
                "def check(candidate): pass\ndef f(n): return 0",
                "import builtins\nbuiltins.AssertionError = Warning\ndef f(n): return 0",
                "import os\ndef f(n): os._exit(0)",
                "import os\nos.write(3, b'{\"passed\": true}\\n' * 9)\ndef f(n): return 0",
                "import os\nos.write(4, b'{\"passed\": true}\\n')\ndef f(n): return 0",
                "def f(n): raise SystemExit(0)",
                "raise SystemExit(0)",
                "def g(n): return n * n",
            ):
                self.assertFalse(sandbox.test(code, test, names=["f"]).passed, code)

    def test_what_a_test_is_written_with_is_not_the_codes(self):
        test = "assert abs(f(2) - 4) < 1e-6\nassert set(g([1, 2])) == {1, 2}"
        right = "def f(n): return n * n\ndef g(a): return a"
        wrong = "def f(n): return 0\ndef g(a): return []"
        with Sandbox(QUICK) as sandbox:
            for names in ((), ("f", "g")):
                self.assertTrue(sandbox.test(right, test, names=names).passed)
                fooled = sandbox.test(f"{wrong}\ndef abs(x): return 0\ndef set(x): return {{1, 2}}", test, names=names)
                self.assertFalse(fooled.passed)
            # What its setup has made is not either, nor what that imports; the setup may use the code.
            setup = "from math import isclose\ndef close(a, b): return abs(a - b) < 1e-6\ndef twice(n): return 2 * f(n)"
            for name in ("isclose", "close"):
                fooled = f"def f(n): return 0\ndef {name}(a, b): return True"
                for code, passed in ((fooled, False), (fooled.replace("return 0", "return n * n"), True)):
                    tested = sandbox.test(code, f"assert {name}(f(2), 4)\nassert twice(3) == 18", setup=setup)
                    self.assertEqual(tested.passed, passed, (name, passed))
            # Nor where both share a process, as an instance of the code's class cannot leave it.
            shared = "class C: pass\ndef f(c): return 4\ndef close(a, b): return True"
            for code, passed in ((shared, True), (shared.replace("4", "5"), False)):
                self.assertEqual(sandbox.test(code, "assert close(f(C()), 4)", setup=setup).passed, passed)
                # The setup's stub of what is tested is no answer.
                stub = f"{setup}\ndef f(n): pass"
                self.assertEqual(sandbox.test(code, "assert close(f(C()), 4)", setup=stub, names=["f"]).passed, passed)
            # One that the test asks for by this name is.
            self.assertTrue(sandbox.test("def sum(a, b): return a * b", "assert sum(3, 4) == 12", names=["sum"]).passed)

    def test_arguments_that_a_call_changes_are_changed(self):
        test = "a, d, s = [3, 1, 2], {1: 2}, {5}\nassert f(a, d, s) is None\n"
        test += "assert (a, d, s) == ([1, 2, 3], {1: 2, 4: [5]}, set())"
        right = "def f(a, d, s):\n    a.sort()\n    d[4] = [5]\n    s.clear()"
        with Sandbox(QUICK) as sandbox:
            self.assertTrue(sandbox.test(right, test, names=["f"]).passed)
            self.assertFalse(sandbox.test(right.replace("a.sort()", "a = sorted(a)"), test, names=["f"]).passed)
            # What cannot cross stays as it was.
            odd = "def f(a):\n    a.append(f)\n    return 7"
            self.assertTrue(sandbox.test(odd, "a = []\nassert f(a) == 7", names=["f"]).passed)
            forged = "import os\nos.write(4, b'{\"value\": 1, \"arguments\": 5}\\n')\ndef f(a): return 1"
            self.assertFalse(sandbox.test(forged, "assert f([]) == 1", names=["f"]).passed)

    def test_a_lost_sandbox_is_no_verdict(self):
        with Sandbox(QUICK) as sandbox:
            once, lost = sandbox._once, []

            def lose_first(*job):
                if lost:
                    return once(*job)
                lost.append(job)
                return sandbox._lost(OSError("no memory"))

            sandbox._once = lose_first
            self.assertEqual(sandbox.call("def f(): return 3", "f", [[]]).results, [("value", 3)])
            self.assertEqual(len(lost), 1)
            sandbox._once = lambda *job: sandbox._lost(OSError("no memory"))
            with self.assertRaises(SandboxUnavailable):
                sandbox.call("def f(): return 3", "f", [[]])

    def test_a_test_that_dies_is_noticed(self):
        # Not at the end of the wall clock's time, nor of that of a second try.
        limits = Limits(wall_seconds=60, cpu_seconds=1)
        with Sandbox(limits) as sandbox:
            outcome = sandbox.test("def f(): pass", "while True: pass", names=["f"])
            self.assertFalse(outcome.passed)
            self.assertNotEqual(outcome.reason, "took too long")

    def test_great_sets_are_refused(self):
        # Hashes that are all equal, as code could write them past its own encoder.
        with self.assertRaises(ValueError):
            decode({"t": "set", "v": [n * (2**61 - 1) for n in range(20_000)]})
        self.assertEqual(decode({"t": "set", "v": [1, 2]}), {1, 2})
        # Nor many of them.
        some = {"t": "set", "v": [n * (2**61 - 1) for n in range(6000)]}
        with self.assertRaises(ValueError):
            decode([some, some])
        self.assertEqual(len(decode([some])[0]), 6000)

    def test_numbers_that_take_long_are_refused(self):
        for value in (
            {"t": "Decimal", "v": "1E+999999999"},
            {"t": "Decimal", "v": "9" * 5000},
            {"t": "Decimal", "v": "1,5"},
            {"t": "Fraction", "v": [1, 0]},
            {"t": "Fraction", "v": ["1e999999999", 1]},
            {"t": "Fraction", "v": [1]},
            {"t": "int", "v": "0x" + "f" * 100_000},
        ):
            with self.assertRaises(ValueError, msg=str(value)[:40]):
                decode(value)
        with Sandbox(QUICK) as sandbox:
            code = "from decimal import Decimal\ndef f(): return Decimal('1E+999999')"
            self.assertEqual(sandbox.call(code, "f", [[]]).results[0][0], "error")


if __name__ == "__main__":
    unittest.main()
