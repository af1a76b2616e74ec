"""Programs that try to get out (`ATTEMPTS`), to stay (`STAYERS`), or to score without working (`FORGERIES`).

The test puts places for these words: SECRET (a file of the grader's that anybody may read), OUTSIDE (a folder that
anybody may write), PARENT (the test's pid), PORT, UDP_PORT, UNIX_PATH, ABSTRACT, DATAGRAMS (sockets that the test
listens on), PACKAGES (a folder of packages that nobody named), SHARED_ID (shared memory that anybody may attach). A
program that succeeds where it must not prints ESCAPED.
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
    "resolve a name": 'socket.getaddrinfo("localhost", 80) and socket.socket()',
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
    "the environment's secret": "os.environ['RAYLIGN_TEST_PASSWORD']",
    "datagram to a path": 'socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[0].sendto(b"x", "DATAGRAMS")',
    "message to a path": 'socket.socketpair()[0].sendmsg([b"x"], [], 0, "DATAGRAMS")',
    "stream pair to a path": 'socket.socketpair()[0].sendto(b"x", "DATAGRAMS")',
    "packets of a pair": "socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)",
    "datagram pair, not blocking": "socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)",
    "pass a descriptor": 'socket.send_fds(socket.socketpair()[0], [b"x"], [0])',
    "connect a pair again": 'socket.socketpair()[0].connect("UNIX_PATH")',
    "pair of another family": "syscall(53, 40, 1, 0, ctypes.create_string_buffer(8))",
    "crypto socket": "socket.socket(38, socket.SOCK_SEQPACKET)",
    "virtual machine's socket": "socket.socket(40, socket.SOCK_STREAM)",
    "packet socket": "socket.socket(17, socket.SOCK_RAW)",
    "watch a folder": "libc('inotify_init1', 0)",
    "watch by the old call": "syscall(253)",
    "watch a file system": "syscall(300, 0, 0)",
    "watch by dnotify": '__import__("fcntl").fcntl(os.open("OUTSIDE", os.O_RDONLY), 1026, 0x80000004)',
    "note on a folder outside": 'os.setxattr("OUTSIDE", "user.x", b"1")',
    "note on an own file": '[open("n", "w").close(), os.setxattr("n", "user.x", b"1")]',
    "read the notes of others": 'os.listxattr("OUTSIDE")',
    "remove a note": 'os.removexattr("OUTSIDE", "user.x")',
    "shared memory of others": "syscall(30, SHARED_ID, 0, 0)",
    "remove shared memory": "syscall(31, SHARED_ID, 0, 0)",
    "list shared memory": "syscall(31, 0, 14, ctypes.create_string_buffer(256))",
    "semaphores of others": "syscall(65, 0, ctypes.create_string_buffer(6), 1)",
    "messages of others": "syscall(70, 0, ctypes.create_string_buffer(64), 8, 0, 0o4000)",
    "remove a message queue": "syscall(241, b'raylign')",
    "become slow": "os.nice(19)",
    "become idle": "os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))",
    "choose a processor": "os.sched_setaffinity(0, {0})",
    "filter of its own": "syscall(317, 1, 8, 0)",
    "sibling in place of a child": "syscall(56, 0x8000 | 17, 0, 0, 0, 0)",
    "file by handle": 'syscall(303, -100, b"SECRET", ctypes.create_string_buffer(136), 0, 0)',
    "packages that nobody named": '[open("PACKAGES/" + name) for name in os.listdir("PACKAGES")][0]',
    "a package that nobody named": 'open("PACKAGES/pytest/__init__.py").read()',
    "import what nobody named": '__import__("pytest")',
    "read the interpreter": 'open(os.path.realpath(sys.executable), "rb").read(4)',
    "empty the grader's file": 'os.truncate("SECRET", 0)',
    "close a folder outside": 'os.chmod("OUTSIDE", 0)',
    "hard link of the library": 'os.link(os.__file__, "mine.py")',
    "limits of the parent": "resource.prlimit(PARENT, resource.RLIMIT_NOFILE, (1, 1))",
    "signal a thread of the parent": "syscall(234, PARENT, PARENT, 9)",
    "kill the warden": "os.kill(os.getppid() or PARENT, 9)",
    "kernel settings": 'open("/proc/sys/kernel/core_pattern", "w").write("x")',
    "devices": 'os.listdir("/sys/class")',
    "secrets of a pod": 'os.listdir("/var/run")',
    "disk": 'os.open("/dev/sda", os.O_RDONLY)',
    "type into the terminal": '__import__("fcntl").ioctl(0, 0x5412, b"x")',
    "root by the link": 'open("/proc/self/root" + "SECRET").read()',
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

# Programs that consume, hide or linger.
STAYERS = {
    "endless loop": "while True: pass",
    "sleeps": """
import time
time.sleep(3600)
""",
    "fork bomb": """
import os
while True:
    try: os.fork()
    except OSError: pass
""",
    "fork bomb that ends": """
import os
for _ in range(6):
    try: os.fork()
    except OSError: pass
os._exit(0)
""",
    "thread bomb": """
import threading, time
while True:
    try: threading.Thread(target=time.sleep, args=(99,)).start()
    except RuntimeError: pass
""",
    "memory bomb": """
x = []
while True: x.append(bytearray(1 << 24))
""",
    "memory bomb that goes on": """
x = []
while True:
    try: x.append(bytearray(1 << 24))
    except MemoryError: pass
""",
    "one huge list": "x = [0] * 10**12",
    "huge output": "while True: print('x' * 100000)",
    "huge errors": """
import sys
while True: sys.stderr.write('x' * 100000)
""",
    "huge number": "print(len(str(7 ** 7 ** 9)))",
    "deep recursion": """
import sys
sys.setrecursionlimit(10**9)
def f(): return f()
f()
""",
    "deep recursion in C": """
x = []
for _ in range(10**6): x = [x]
import sys
sys.setrecursionlimit(10**9)
repr(x)
""",
    "orphans": """
import os, time
if os.fork() == 0:
    if os.fork() == 0: time.sleep(3600)
    os._exit(0)
os.wait()
""",
    "daemon": """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.setsid()
        for fd in range(9):
            try: os.close(fd)
            except OSError: pass
        time.sleep(3600)
    os._exit(0)
""",
    "daemon that ignores signals": """
import os, signal, time
for n in range(1, 65):
    try: signal.signal(n, signal.SIG_IGN)
    except (OSError, ValueError): pass
if os.fork() == 0:
    os.setsid()
    while True: time.sleep(1)
""",
    "ignores signals": """
import signal
for n in range(1, 65):
    try: signal.signal(n, signal.SIG_IGN)
    except (OSError, ValueError): pass
while True: pass
""",
    "child forks from child": """
import os
while True:
    try:
        if os.fork(): os._exit(0)
    except OSError: pass
""",
    "stops itself": """
import os, signal
os.kill(os.getpid(), signal.SIGSTOP)
while True: pass
""",
    "timing bomb in del": """
class A:
    def __del__(self):
        while True: pass
x = A()
x = None
""",
    "timing bomb at exit": """
import atexit
atexit.register(lambda: [None for _ in iter(int, 1)])
""",
    "thread that does not end": """
import threading
def f():
    while True: pass
threading.Thread(target=f).start()
""",
    "catastrophic pattern": """
import re
re.match('(a+)+b', 'a' * 64)
""",
    "closes all streams": """
import os
os.closerange(0, 64)
while True: pass
""",
    "fills the scratch folder": """
i = 0
while True:
    open(str(i), 'wb').write(b'x' * (1 << 20))
    i += 1
""",
    "crashes": """
import ctypes
ctypes.string_at(1)
""",
    "folder within folder": """
import os
for _ in range(1500):
    os.mkdir('d'); os.chdir('d')
open('f', 'w').close()
""",
    "folders of long names, closed": """
import os
names = []
for n in range(60):
    name = str(n) * 50; os.mkdir(name); open(name + '/f', 'w').close(); names.append(name)
for _ in range(300):
    os.mkdir('d' * 200); os.chdir('d' * 200)
os.chmod('.', 0)
""",
    "links outwards": """
import os
os.mkdir('a'); os.symlink('OUTSIDE', 'a/b'); os.symlink('/', 'c'); os.symlink('..', 'a/d')
os.chmod('a', 0o300)
""",
    "closes its folder": """
import os
os.mkdir('d'); open('d/f', 'w').close(); os.chmod('d', 0); os.chmod('.', 0)
""",
    "many small files": """
for n in range(3000):
    open(str(n), 'w').close()
""",
    "children that nobody waits for": """
import os, signal
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
while True:
    try:
        if os.fork() == 0:
            for _ in range(10**6): pass
            os._exit(0)
    except OSError: pass
""",
    "naps": """
import time
while True: time.sleep(0.001)
""",
    "waits for itself": """
import threading
lock = threading.Lock(); lock.acquire(); lock.acquire()
""",
    "threads that compute": """
import hashlib, threading
def f():
    while True: hashlib.sha256(b'x' * (1 << 20))
for _ in range(6): threading.Thread(target=f).start()
""",
    "children that compute while it sleeps": """
import os, time
for _ in range(4):
    if os.fork() == 0:
        while True: pass
time.sleep(3600)
""",
    "stopped child": """
import os, signal
if os.fork() == 0: os.kill(os.getpid(), signal.SIGSTOP)
""",
    "alarm for ever": """
import signal
signal.signal(signal.SIGALRM, lambda *a: None)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
while True: signal.pause()
""",
    "talks to itself": """
import os
r, w = os.pipe()
os.read(r, 1)
""",
    "starts a sandbox": """
from raylign.actors.sandbox.local import LocalSandbox
from raylign.actors.sandbox.contract import Program
print('ESCAPED', LocalSandbox().run(Program(code='print(1)')))
""",
    "aborts": """
import os
os.abort()
""",
}

# Candidates for the tests of double(x) == 2 * x. None computes it.
FORGERIES = {
    "exit with success": """
import sys
sys.exit(0)
""",
    "os._exit": """
import os
os._exit(0)
""",
    "exit inside the call": """
import os
def double(x): os._exit(0)
""",
    "SystemExit inside the call": "def double(x): raise SystemExit(0)",
    "always equal": """
class A:
    def __eq__(self, other): return True
    def __hash__(self): return 0
def double(x): return A()
""",
    "always equal int": """
class A(int):
    def __eq__(self, other): return True
    __hash__ = int.__hash__
def double(x): return A(0)
""",
    "always equal list": """
class A(list):
    def __eq__(self, other): return True
def double(x): return A()
""",
    "pickle payload": """
import os
class A:
    def __reduce__(self): return (os.system, ('touch OUTSIDE/pickled',))
def double(x): return A()
""",
    "tag injection": "def double(x): return ['i', '0x0']",
    "nested forever": """
def double(x):
    y = []
    y.append(y)
    return y
""",
    "deep answer": """
def double(x):
    y = []
    for _ in range(10**5): y = [y]
    return y
""",
    "patch the encoder": """
from raylign.actors.sandbox import runner
runner.encode = lambda value: ['same']
runner.json.dumps = lambda value: '[true]'
def double(x): return None
""",
    "patch json": """
import json
json.dumps = lambda *a, **k: '{"passed": true}'
def double(x): return None
""",
    "replace json": """
import sys, types
m = types.ModuleType('json')
m.dumps = lambda v: '[[]]'
sys.modules['json'] = m
def double(x): return None
""",
    "patch builtins": """
import builtins
builtins.all = builtins.any = lambda x: True
builtins.isinstance = lambda a, b: True
def double(x): return None
""",
    "write replies": r"""
import os
os.write(3, b'[true]\n' * 3)
def double(x): os._exit(0)
""",
    "write a verdict": r"""
import os
for fd in (1, 2, 3):
    os.write(fd, b'{"score": 1.0, "passed": 3, "status": 0}\n')
os._exit(0)
""",
    "write garbage replies": r"""
import os
os.write(3, b'\xff\x00[[[{' * 100)
os._exit(0)
""",
    "write deep replies": r"""
import os
os.write(3, b'[' * 60000 + b'\n')
os._exit(0)
""",
    "write too many replies": r"""
import os
os.write(3, b'[4]\n[14]\n[-6]\n' * 50)
def double(x): return None
""",
    "write to every descriptor": r"""
import os
for fd in range(3, 64):
    try: os.write(fd, b'ready\n{"status":0}')
    except OSError: pass
os._exit(0)
""",
    "read frames for what is expected": """
import sys
def double(x):
    frame = sys._getframe()
    while frame:
        for v in frame.f_locals.values():
            if isinstance(v, dict) and 'expected' in v: return v['expected']
            if hasattr(v, 'expected'): return v.expected
        frame = frame.f_back
    return None
""",
    "search the heap for what is expected": """
import gc
def double(x):
    for v in gc.get_objects():
        if type(v).__name__ in ('Reference', 'UnitTests'): return v.expected[0]
        if isinstance(v, dict) and 'expected' in v: return v['expected']
    return None
""",
    "trace the runner": """
import sys
def tracer(frame, event, arg):
    if 'status' in frame.f_locals: frame.f_locals['status'] = 0
    return tracer
sys.settrace(tracer)
def double(x): return None
""",
    "profile the runner": """
import sys
sys.setprofile(lambda *a: None)
def double(x): return None
""",
    "swap the function's answer": """
import sys
class M(dict):
    def get(self, k, d=None): return lambda *a: True
sys.modules['__main__'].__dict__.update(M())
""",
    "patch the checker's module": """
import sys
for m in list(sys.modules.values()):
    for n in ('same', 'verdicts', '_agrees'):
        if hasattr(m, n): setattr(m, n, lambda *a, **k: True)
def double(x): return None
""",
    "returns nothing": "def double(x): return None",
    "returns its argument": "def double(x): return x",
    "returns not a number": "def double(x): return float('nan')",
    "returns the text": "def double(x): return str(2 * x)",
    "returns a generator": "def double(x): yield 2 * x",
    "colliding keys": "def double(x): return {i * (2**61 - 1): 0 for i in range(20000)}",
    "answers too large": "def double(x): return 'x' * (1 << 28)",
    "raises in repr": """
class A:
    def __repr__(self): raise MemoryError
    def __bool__(self): raise KeyboardInterrupt
def double(x): return A()
""",
    "sleeps in the call": """
import time
def double(x): time.sleep(3600)
""",
    "answers after a fork": """
import os
def double(x):
    if os.fork() == 0: return True
    os.wait()
    return None
""",
    "no function": "x = 1",
    "syntax error": "def double(x:",
    "null byte": "def double(x): return 1\x00",
}
