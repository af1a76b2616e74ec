"""Programs that try to get out, to score without working, or to stay. Each is source with ``{}``-free placeholders.

`PLACES` are replaced by the test: SECRET (a readable file of the grader's), SECRET_TEXT is never in a program, OUTSIDE (a
folder that anybody may write), PARENT (the test's pid), PORT, UDP_PORT, UNIX_PATH, ABSTRACT (sockets that the test
listens on). A program that succeeds where it must not prints ESCAPED. Those in `FORGERIES` try to score.
"""

from __future__ import annotations

TRY = """
def attempt(act):
    try:
        result = act()
    except BaseException as error:
        print("refused", type(error).__name__)
    else:
        print("ESCAPED", str(result)[:200])
"""

# Each attempt is an expression that must raise.
ATTEMPTS = {
    "read the grader's file": 'open("SECRET").read()',
    "list the grader's folder": '__import__("os").listdir(__import__("os").path.dirname("SECRET"))',
    "read through dots": 'open("../../../../../../../.." + "SECRET").read()',
    "read through a symlink": '[os.symlink("SECRET", "link"), open("link").read()]',
    "read through a hard link": '[os.link("SECRET", "hard"), open("hard").read()]',
    "read passwords": 'open("/etc/shadow").read()',
    "read the users": 'open("/etc/passwd").read()',
    "write outside": 'open("OUTSIDE/x", "w").write("x")',
    "make a folder outside": 'os.mkdir("OUTSIDE/d")',
    "rename outwards": '[open("mine", "w").close(), os.rename("mine", "OUTSIDE/y")]',
    "write to /tmp": 'open("/tmp/raylign-hostile", "w").write("x")',
    "write to shared memory": 'open("/dev/shm/raylign-hostile", "w").write("x")',
    "posix shared memory": '__import__("_posixshmem").shm_open("/raylign-hostile", os.O_CREAT | os.O_RDWR, 0o600)',
    "patch the standard library": 'open(os.__file__, "a").write("x")',
    "kill the parent": "os.kill(PARENT, 9)",
    "signal the parent softly": "os.kill(PARENT, 0)",
    "kill the parent's group": "os.killpg(PARENT, 9)",
    "kill process 2": "os.kill(2, 9)",
    "tcp": 'socket.create_connection(("127.0.0.1", PORT), timeout=2)',
    "tcp by descriptor": "socket.socket()",
    "udp": 'socket.socket(type=socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", UDP_PORT))',
    "raw socket": "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)",
    "netlink": "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)",
    "unix socket": 'socket.socket(socket.AF_UNIX).connect("UNIX_PATH")',
    "abstract socket": 'socket.socket(socket.AF_UNIX).connect("\\0ABSTRACT")',
    "listen": 'socket.create_server(("127.0.0.1", 0))',
    "resolve a name": 'socket.getaddrinfo("localhost", 80, socket.AF_INET, 0, 0, socket.AI_ADDRCONFIG) and socket.socket()',
    "ptrace": "syscall(101, 16, PARENT, 0, 0)",
    "read the parent's memory": "syscall(310, PARENT, 0, 0, 0, 0, 0)",
    "attach by /proc": 'open("/proc/PARENT/mem", "rb").read(1)',
    "environment by /proc": 'open("/proc/PARENT/environ", "rb").read()',
    "own memory": 'open("/proc/self/mem", "r+b").read(1)',
    "list processes": '[pid for pid in os.listdir("/proc") if pid.isdigit()][0]',
    "descriptors of the parent": 'os.listdir("/proc/PARENT/fd")',
    "root by /proc": 'open("/proc/PARENT/root" + "SECRET").read()',
    "mount": 'libc("mount", b"none", b"/", b"tmpfs", 0, None)',
    "chroot": 'os.chroot(".")',
    "new user namespace": "syscall(272, 0x10000000)",
    "clone with a namespace": "syscall(56, 0x10000000 | 17, 0, 0, 0, 0)",
    "enter a namespace": "syscall(308, 0, 0)",
    "become root": "os.setuid(0)",
    "become another user": "os.setresuid(1, 1, 1)",
    "become root's group": "os.setgid(0)",
    "capset": "syscall(126, 0, 0)",
    "device file": 'os.mknod("disk", 0o60600, os.makedev(8, 0))',
    "fifo": 'os.mkfifo("pipe")',
    "own a file of root's": 'os.chown("/", os.getuid(), os.getuid())',
    "loosen root's modes": "os.chmod(os.__file__, 0o777)",
    "set-uid program": '[open("s", "w").close(), os.chown("s", 0, 0)]',
    "raise a limit": "resource.setrlimit(resource.RLIMIT_AS, (-1, -1))",
    "raise the process limit": "resource.setrlimit(resource.RLIMIT_NPROC, (99999, 99999))",
    "run a shell": 'os.execv("/bin/sh", ["sh", "-c", "echo ESCAPED"])',
    "run by subprocess": '__import__("subprocess").check_output(["/bin/sh", "-c", "echo"])',
    "os.system": '__import__("builtins").exec("raise OSError") if os.system("echo ESCAPED; true") else 1',
    "file in memory to run": 'os.memfd_create("x")',
    "perf": "syscall(298, 0, 0, -1, -1, 0)",
    "bpf": "syscall(321, 0, 0, 0)",
    "userfaultfd": "syscall(323, 0)",
    "io_uring": "syscall(425, 1, 0)",
    "keyring": "syscall(250, 0, -3, 0, 0, 0)",
    "pidfd": "syscall(434, PARENT, 0)",
    "a call of tomorrow": "syscall(462, 0, 0)",
    "x32 call": "syscall(0x40000000 + 41, 2, 1, 0)",
    "system v memory": "syscall(29, 4711, 4096, 0o1666)",
    "message queue": "syscall(240, b'q', 0o102, 0o600, 0)",
    "reboot": "syscall(169, 0xfee1dead, 672274793, 0, 0)",
    "kernel log": "syscall(103, 3, 0, 0)",
    "host name": 'socket.sethostname("mine")',
    "clock": "time.clock_settime(time.CLOCK_REALTIME, 0)",
    "outlive the warden": "libc('prctl', 1, 0, 0, 0, 0)",
    "large file": 'open("big", "wb").write(b"x" * (64 << 20))',
    "many files open": "[open('/dev/null') for _ in range(1000)]",
    "the environment's secret": "os.environ['RAYLIGN_TEST_SECRET']",
}
LIBRARY = """
import ctypes, os, resource, socket, sys, threading, time
C = ctypes.CDLL(None, use_errno=True)
def libc(name, *arguments):
    if getattr(C, name)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), name)
def syscall(*arguments):
    if C.syscall(*(ctypes.c_long(a) if isinstance(a, int) else a for a in arguments)) < 0:
        raise OSError(ctypes.get_errno(), "syscall")
"""

# Programs that consume, hide or linger. (source, whether it must be stopped by a limit)
STAYERS = {
    "endless loop": "while True: pass",
    "sleeps": "import time\ntime.sleep(3600)",
    "fork bomb": "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
    "fork bomb that ends": "import os\nfor _ in range(6):\n    try: os.fork()\n    except OSError: pass\nos._exit(0)",
    "thread bomb": "import threading, time\nwhile True:\n    try: threading.Thread(target=time.sleep, args=(99,)).start()\n"
    "    except RuntimeError: pass",
    "memory bomb": "x = []\nwhile True: x.append(bytearray(1 << 24))",
    "memory bomb that goes on": "x = []\nwhile True:\n    try: x.append(bytearray(1 << 24))\n    except MemoryError: pass",
    "one huge list": "x = [0] * 10**12",
    "huge output": "while True: print('x' * 100000)",
    "huge errors": "import sys\nwhile True: sys.stderr.write('x' * 100000)",
    "huge number": "print(len(str(7 ** 7 ** 9)))",
    "deep recursion": "import sys\nsys.setrecursionlimit(10**9)\ndef f(): return f()\nf()",
    "deep recursion in C": "x = []\nfor _ in range(10**6): x = [x]\nimport sys\nsys.setrecursionlimit(10**9)\nrepr(x)",
    "orphans": "import os, time\nif os.fork() == 0:\n    if os.fork() == 0: time.sleep(3600)\n    os._exit(0)\nos.wait()",
    "daemon": "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        os.setsid()\n"
    "        for fd in range(9):\n            try: os.close(fd)\n            except OSError: pass\n"
    "        time.sleep(3600)\n    os._exit(0)",
    "daemon that ignores signals": "import os, signal, time\nfor n in range(1, 65):\n    try: signal.signal(n, signal.SIG_IGN)\n"
    "    except (OSError, ValueError): pass\nif os.fork() == 0:\n    os.setsid()\n    while True: time.sleep(1)",
    "ignores signals": "import signal\nfor n in range(1, 65):\n    try: signal.signal(n, signal.SIG_IGN)\n"
    "    except (OSError, ValueError): pass\nwhile True: pass",
    "child forks from child": "import os\nwhile True:\n    try:\n        if os.fork(): os._exit(0)\n    except OSError: pass",
    "stops itself": "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)\nwhile True: pass",
    "timing bomb in del": "class A:\n    def __del__(self):\n        while True: pass\nx = A()\nx = None",
    "timing bomb at exit": "import atexit\natexit.register(lambda: [None for _ in iter(int, 1)])",
    "thread that does not end": "import threading\ndef f():\n    while True: pass\nthreading.Thread(target=f).start()",
    "catastrophic pattern": "import re\nre.match('(a+)+b', 'a' * 64)",
    "closes all streams": "import os\nos.closerange(0, 64)\nwhile True: pass",
    "fills the scratch folder": "i = 0\nwhile True:\n    open(str(i), 'wb').write(b'x' * (1 << 20))\n    i += 1",
    "crashes": "import ctypes\nctypes.string_at(1)",
    "aborts": "import os\nos.abort()",
}
# What these would print without a sandbox around them would be no harm; they must not hang or hurt it either.

# Candidates for the tests of double(x) == 2 * x. None computes it.
FORGERIES = {
    "exit with success": "import sys\nsys.exit(0)",
    "os._exit": "import os\nos._exit(0)",
    "exit inside the call": "import os\ndef double(x): os._exit(0)",
    "SystemExit inside the call": "def double(x): raise SystemExit(0)",
    "always equal": "class A:\n    def __eq__(self, other): return True\n    def __hash__(self): return 0\n"
    "def double(x): return A()",
    "always equal int": "class A(int):\n    def __eq__(self, other): return True\n    __hash__ = int.__hash__\n"
    "def double(x): return A(0)",
    "always equal list": "class A(list):\n    def __eq__(self, other): return True\ndef double(x): return A()",
    "pickle payload": "import os\nclass A:\n    def __reduce__(self): return (os.system, ('touch OUTSIDE/pickled',))\n"
    "def double(x): return A()",
    "tag injection": "def double(x): return ['i', '0x0']",
    "nested forever": "def double(x):\n    y = []\n    y.append(y)\n    return y",
    "deep answer": "def double(x):\n    y = []\n    for _ in range(10**5): y = [y]\n    return y",
    "patch the encoder": "from raylign.actors.sandbox import runner\nrunner.encode = lambda value: ['same']\n"
    "runner.json.dumps = lambda value: '[true]'\ndef double(x): return None",
    "patch json": "import json\njson.dumps = lambda *a, **k: '{\"passed\": true}'\ndef double(x): return None",
    "replace json": "import sys, types\nm = types.ModuleType('json')\nm.dumps = lambda v: '[[]]'\nsys.modules['json'] = m\n"
    "def double(x): return None",
    "patch builtins": "import builtins\nbuiltins.all = builtins.any = lambda x: True\n"
    "builtins.isinstance = lambda a, b: True\ndef double(x): return None",
    "write replies": "import os\nos.write(3, b'[true]\\n' * 3)\ndef double(x): os._exit(0)",
    "write a verdict": "import os\nfor fd in (1, 2, 3):\n    os.write(fd, b'{\"score\": 1.0, \"passed\": 3, \"status\": 0}\\n')\n"
    "os._exit(0)",
    "write garbage replies": "import os\nos.write(3, b'\\xff\\x00[[[{' * 100)\nos._exit(0)",
    "write deep replies": "import os\nos.write(3, b'[' * 60000 + b'\\n')\nos._exit(0)",
    "write too many replies": "import os\nos.write(3, b'[4]\\n[14]\\n[-6]\\n' * 50)\ndef double(x): return None",
    "write to every descriptor": "import os\nfor fd in range(3, 64):\n    try: os.write(fd, b'ready\\n{\"status\":0}')\n"
    "    except OSError: pass\nos._exit(0)",
    "read frames for what is expected": "import sys\ndef double(x):\n    frame = sys._getframe()\n    while frame:\n"
    "        for v in frame.f_locals.values():\n            if isinstance(v, dict) and 'expected' in v: return v['expected']\n"
    "            if hasattr(v, 'expected'): return v.expected\n        frame = frame.f_back\n    return None",
    "search the heap for what is expected": "import gc\ndef double(x):\n    for v in gc.get_objects():\n"
    "        if type(v).__name__ in ('Reference', 'UnitTests'): return v.expected[0]\n"
    "        if isinstance(v, dict) and 'expected' in v: return v['expected']\n    return None",
    "trace the runner": "import sys\ndef tracer(frame, event, arg):\n    if 'status' in frame.f_locals: frame.f_locals['status'] = 0\n"
    "    return tracer\nsys.settrace(tracer)\ndef double(x): return None",
    "profile the runner": "import sys\nsys.setprofile(lambda *a: None)\ndef double(x): return None",
    "swap the function's answer": "import sys\nclass M(dict):\n    def get(self, k, d=None): return lambda *a: True\n"
    "sys.modules['__main__'].__dict__.update(M())",
    "patch the checker's module": "import sys\nfor m in list(sys.modules.values()):\n    for n in ('same', 'verdicts', '_agrees'):\n"
    "        if hasattr(m, n): setattr(m, n, lambda *a, **k: True)\ndef double(x): return None",
    "returns nothing": "def double(x): return None",
    "returns its argument": "def double(x): return x",
    "returns not a number": "def double(x): return float('nan')",
    "returns the text": "def double(x): return str(2 * x)",
    "returns a generator": "def double(x): yield 2 * x",
    "colliding keys": "def double(x): return {i * (2**61 - 1): 0 for i in range(20000)}",
    "answers too large": "def double(x): return 'x' * (1 << 28)",
    "raises in repr": "class A:\n    def __repr__(self): raise MemoryError\n    def __bool__(self): raise KeyboardInterrupt\n"
    "def double(x): return A()",
    "sleeps in the call": "import time\ndef double(x): time.sleep(3600)",
    "answers after a fork": "import os\ndef double(x):\n    if os.fork() == 0: return True\n    os.wait()\n    return None",
    "no function": "x = 1",
    "syntax error": "def double(x:",
    "null byte": "def double(x): return 1\0",
}
