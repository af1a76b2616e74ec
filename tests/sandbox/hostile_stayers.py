"""Programs that hide, linger or dodge their deadline. See `hostile_escapes` for the words that stand for places."""

from __future__ import annotations

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
    "closes all streams": """
import os
os.closerange(0, 64)
while True: pass
""",
    "crashes": """
import ctypes
ctypes.string_at(1)
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
    "child that borrows its parent": """
import ctypes, time
C = ctypes.CDLL(None)
if C.syscall(58) == 0: time.sleep(3600)
""",
    "main thread leaves, another computes": """
import ctypes, threading
def f():
    while True: pass
threading.Thread(target=f).start()
ctypes.CDLL(None).syscall(60, 0)
""",
    "main thread leaves, another sleeps": """
import ctypes, threading, time
threading.Thread(target=time.sleep, args=(3600,)).start()
ctypes.CDLL(None).syscall(60, 0)
""",
    "children gone whenever somebody looks": """
import os, signal, time
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
while True:
    end = time.monotonic() + 0.08
    for _ in range(6):
        try:
            if os.fork() == 0:
                while time.monotonic() < end: pass
                os._exit(0)
        except OSError: pass
    while time.monotonic() < end + 0.02: pass
""",
    "kills all that it can": """
import os, signal
for number in (signal.SIGSTOP, signal.SIGKILL):
    os.kill(-1, number)
while True: pass
""",
    "child that kills its parent and stays": """
import os, time
if os.fork() == 0:
    os.setsid()
    os.kill(os.getppid(), 9)
    time.sleep(3600)
time.sleep(3600)
""",
    "orphan that holds the streams": """
import os, time
if os.fork() == 0:
    os.setsid()
    while True: time.sleep(3600)
os._exit(0)
""",
    "orphans that follow each other": """
import os, time
if os.fork(): os._exit(0)
while True:
    try:
        if os.fork(): os._exit(0)
        os.setsid()
    except OSError: pass
""",
    "spends its limit at once": """
import resource
resource.setrlimit(resource.RLIMIT_CPU, (1, resource.getrlimit(resource.RLIMIT_CPU)[1]))
import signal
signal.signal(signal.SIGXCPU, signal.SIG_IGN)
while True: pass
""",
    "blocks what ends it": """
import signal
signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
while True: signal.sigwait([signal.SIGUSR1])
""",
    "signals by its pipe": """
import fcntl, os
r, w = os.pipe()
for end in (r, w):
    for pid in (PARENT, os.getppid(), -PARENT):
        try: fcntl.fcntl(end, fcntl.F_SETOWN, pid)
        except OSError: pass
        fcntl.fcntl(end, 10, 9)  # F_SETSIG
        fcntl.fcntl(end, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
        os.write(w, b'x')
while True: pass
""",
    "signals by urgent data": """
import fcntl, os, socket
a, b = socket.socketpair()
for end in (a, b):
    try: fcntl.fcntl(end, fcntl.F_SETOWN, PARENT)
    except OSError: pass
a.send(b'x', socket.MSG_OOB)
while True: pass
""",
    "thread that never lets go": """
import sys, threading
sys.setswitchinterval(1e6)
def f():
    while True: pass
for _ in range(5): threading.Thread(target=f, daemon=True).start()
while True: pass
""",
    "error whose text never ends": """
class E(Exception):
    def __str__(self):
        while True: pass
raise E
""",
    "hook that never ends": """
import sys
sys.excepthook = sys.unraisablehook = lambda *a: [None for _ in iter(int, 1)]
class A:
    def __del__(self): raise ValueError
A()
1 / 0
""",
    "exit functions that follow each other": """
import atexit
def again(): atexit.register(again)
again()
""",
    "threads that follow each other": """
import threading, time
def f():
    time.sleep(0.01)
    threading.Thread(target=f).start()
f()
""",
    "interpreter of a child": """
import multiprocessing
multiprocessing.set_start_method('fork')
def f():
    while True: pass
for _ in range(4): multiprocessing.Process(target=f).start()
""",
    "calls of another machine": """
import ctypes, mmap
page = mmap.mmap(-1, 4096, prot=7)
page.write(b'\\xb8\\x14\\x00\\x00\\x00\\xcd\\x80\\xc3')
call = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
print('ESCAPED', call())
""",
}
