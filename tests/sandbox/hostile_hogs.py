"""Programs that consume memory, files or the reader's patience. See `hostile_escapes` for the words for places."""

from __future__ import annotations

HOGS = {
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
    "fills the scratch folder": """
i = 0
while True:
    open(str(i), 'wb').write(b'x' * (1 << 20))
    i += 1
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
    "link that turns": """
import os, threading
open('own', 'w').write('mine')
def turn():
    while True:
        for target in ('own', 'SECRET'):
            os.symlink(target, 'next')
            os.rename('next', 'link')
threading.Thread(target=turn, daemon=True).start()
while True:
    try:
        if open('link').read() not in ('', 'mine'): print('ESCAPED')
    except OSError: pass
""",
    "folder that turns": """
import os, threading
os.mkdir('a'); os.mkdir('OUTSIDE'.replace('/', '_')); open('a/secret', 'w').write('mine')
def turn():
    while True:
        os.symlink(os.path.dirname('SECRET'), 'b')
        os.rename('a', 'c'); os.rename('b', 'a'); os.rename('a', 'b'); os.rename('c', 'a'); os.unlink('b')
threading.Thread(target=turn, daemon=True).start()
while True:
    try:
        if open('a/secret', 'r+').read() != 'mine': print('ESCAPED')
    except OSError: pass
""",
    "names that are no text": r"""
import os
for name in (b'\xff\xfe', b'a\nb', b'-rf', b'*', b' ', b'\xc3' * 200, b'..\\x', b'"\'`$(x)'):
    os.mkdir(name)
    os.close(os.open(name + b'/' + name, os.O_CREAT))
    os.symlink(name, name + b'/l')
    os.chmod(name, 0)
""",
    "hard links": """
import os
open('f', 'w').close()
n = 0
while True:
    os.link('f', str(n)); n += 1
""",
    "files from every process": """
import os, signal
for _ in range(3):
    if os.fork() == 0: break
me, n = os.getpid(), 0
while True:
    try: os.close(os.open(f'{me}-{n}', os.O_CREAT | os.O_WRONLY))
    except OSError: pass
    n += 1
""",
    "folders from every process": """
import os
for _ in range(3):
    if os.fork() == 0: break
me, n = os.getpid(), 0
while True:
    try: os.makedirs(f'{me}-{n}/' + 'd/' * 20)
    except OSError: pass
    n += 1
""",
    "holes": """
import os
n = 0
while True:
    with open(str(n), 'wb') as f: f.truncate(16 << 20)
    n += 1
""",
    "locks": """
import fcntl
f, n = open('f', 'w'), 0
while True:
    fcntl.lockf(f, fcntl.LOCK_EX, 1, 2 * n); n += 1
""",
    "pipes": """
import fcntl, os
pipes = []
while True:
    try:
        r, w = os.pipe()
        fcntl.fcntl(w, 1031, 1 << 20)  # F_SETPIPE_SZ
        os.set_blocking(w, False)
        while os.write(w, bytes(1 << 16)): pass
    except OSError: pass
""",
    "maps": """
import mmap
kept = []
while True:
    try: kept.append(mmap.mmap(-1, 4096))
    except (OSError, MemoryError): kept.append(None)
""",
    "shared memory of children": """
import mmap, os
m = mmap.mmap(-1, 48 << 20)
for _ in range(3):
    if os.fork() == 0: break
while True:
    for i in range(0, len(m), 4096): m[i] = 1
""",
    "file beneath its own map": """
import mmap, os
f = open('f', 'w+b'); f.truncate(1 << 20)
m = mmap.mmap(f.fileno(), 1 << 20)
f.truncate(0)
m[5]
""",
    "stack": """
import threading
threading.stack_size(200 << 20)
def f(n=0): return f(n + 1)
threading.Thread(target=f).start()
""",
    "decompression": """
import zlib
data = zlib.compress(bytes(1 << 26), 9)
inflate = zlib.decompressobj()
while True: print(len(zlib.decompress(data)), zlib.decompress(data)[:1 << 20])
""",
    "output by every way": """
import os, threading
def f(fd):
    while True: os.writev(fd, [b'x' * 65536] * 8)
for fd in (1, 2, 3): threading.Thread(target=f, args=(fd,)).start()
""",
    "output that is no text": r"""
import os
while True: os.write(1, b'\xff\xfe\x00\x1b[2J' * 9999)
""",
    "a million answers": r"""
import os
while True: os.write(3, b'[1]\n' * 16384)
""",
    "answers without content": r"""
import os
while True: os.write(3, b'\n' * 65536)
""",
    "one answer without end": r"""
import os
os.write(3, b'[["s",[')
while True: os.write(3, b'["f","1.5"],' * 5000)
""",
    "answers to the last byte": r"""
import os
left = (4096 << 10) - len(b'[["s",[1]]]\n')
os.write(3, b'[["s",[' + b'1,' * (left // 2) + b'1]]]\n')
def double(x): os._exit(0)
""",
    "error of a huge text": """
class E(Exception):
    def __str__(self): return 'x' * (1 << 26)
raise E
""",
    "warnings without end": """
import warnings
warnings.simplefilter('always')
while True: warnings.warn('x' * 9999)
""",
    "source that is too deep": "(" * 99999,
    "source that is too long": "x = [" + "[]," * 200_000 + "]",
    "source of half a character": "x = '\ud83d'\nprint(x)",
    "regular expression that explodes": """
import re
re.compile('((a{1,99}){1,99}){1,99}').match('a' * 9999)
""",
    "digits": """
import sys
sys.set_int_max_str_digits(0)
print(str(3 ** (1 << 25)))
""",
    "catastrophic pattern": """
import re
re.match('(a+)+b', 'a' * 64)
""",
}
