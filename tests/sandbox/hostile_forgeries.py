"""Candidates for the tests of double(x) == 2 * x, by what they answer. None computes it."""

from __future__ import annotations

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
    "answers in its last breath": r"""
import os
class A:
    def __del__(self): os.write(3, b'[5]\n[15]\n[-7]\n')
a = A()
def double(x):
    global a
    a = None
    os._exit(0)
""",
    "answers at exit": r"""
import atexit, os
atexit.register(os.write, 3, b'[true]\n' * 3)
""",
    "answers by a thread": r"""
import os, threading, time
def f():
    while True: os.write(3, b'[null]\n')
threading.Thread(target=f, daemon=True).start()
def double(x): time.sleep(0.1)
""",
    "answers by a child": r"""
import os
if os.fork() == 0:
    os.setsid()
    for _ in range(3): os.write(3, b'["=="]\n')
    os._exit(0)
os.wait()
os._exit(0)
""",
    "digests of anything": r"""
import os
os.write(3, b'[["h","",""]]\n[["h"]]\n[["h",["h"],["h"]]]\n')
os._exit(0)
""",
    "numbers that are none": r"""
import os
os.write(3, b'[NaN]\n[Infinity]\n[1e999]\n')
os._exit(0)
""",
    "numbers without a value": r"""
import os
os.write(3, b'[["i"]]\n[["f","nan"]]\n[["q","0x4","0x0"]]\n')
os._exit(0)
""",
    "answers that are objects": r"""
import os
os.write(3, b'[{"error":null}]\n[{"i":"0x4"}]\n{"value":4}\n')
os._exit(0)
""",
    "errors that are none": r"""
import os
os.write(3, b'{"error":null}\n{"error":""}\n{"error":false}\n')
os._exit(0)
""",
    "lines by other separators": r"""
import os
os.write(3, b'[true]\x0b[true]\x0c[true]\x1c[true]\x85[true]\xe2\x80\xa8[true]\r[true]')
os._exit(0)
""",
    "number of every value": """
class A(int):
    def __int__(self): return 9
    def __index__(self): return 9
    def __abs__(self): return 0
    def __lt__(self, other): return True
def double(x): return A(1)
""",
    "float of every value": """
class A(float):
    def __float__(self): return float('nan')
    def hex(self): return 'nan'
def double(x): return A(1)
""",
    "array of NumPy's name": """
class A:
    def tolist(self): return ['i', '0x4']
A.__module__ = 'numpy'
def double(x): return A()
""",
    "list without end": """
class A(list):
    def __iter__(self):
        while True: yield 4
def double(x): return A()
""",
    "mapping without end": """
from collections.abc import Mapping
class A(Mapping):
    def __getitem__(self, k): return 4
    def __len__(self): return 1
    def __iter__(self): return iter(int, 1)
def double(x): return A()
""",
    "class in place of a function": """
class double:
    def __new__(cls, x): return super().__new__(cls)
    def __eq__(self, other): return True
    def __bool__(self): return True
    __hash__ = None
""",
    "exit status by signal": """
import os, signal
signal.signal(signal.SIGTERM, lambda *a: os._exit(0))
def double(x): os.kill(os.getpid(), signal.SIGTERM)
""",
    "pickle of an answer": """
import pickle, os
class A:
    def __reduce__(self): return (exec, ("open('OUTSIDE/unpickled', 'w')",))
def double(x):
    os.write(3, pickle.dumps(A()) + b'\\n')
    return pickle.dumps(A())
""",
    "error in place of an answer": "def double(x): raise AssertionError('ok: passed 3 of 3, score 1.0')",
}
