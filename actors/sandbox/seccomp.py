"""The system calls that a program may not make, as a seccomp-BPF filter; written out, so that no library is needed.

Numbers newer than this list are refused whole: a kernel's next door is closed before anybody knows of it. Sockets are
refused at `socket` and at every call that would use one. ``socketpair`` stays, because event loops wake up by it, for
connected streams alone, and no message names another receiver: a datagram socket of a pair could send to any path.

What Landlock does not cover outside the scratch folder is refused here: watching files, extended attributes, other
people's message queues and shared memory, leases (who opens the file waits for its holder), and (before its third
version) ``truncate``. Priorities, processors and their sharing (core scheduling) cannot be chosen, so that nobody waits
for a processor by their own doing (`clock`). Setting a file's times does nothing and says that it worked, because
copying a file does it. Looking at a file's metadata (stat, O_PATH) is open.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from raylign.kernel import (
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
    PR_SET_CHILD_SUBREAPER,
    PR_SET_PDEATHSIG,
    landlock_abi,
    machine,
)

EPERM, ENOSYS, ENOTSUP = 1, 38, 95
KILL, ALLOW, ERRNO = 0x80000000, 0x7FFF0000, 0x00050000
ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
NUMBER, ARCH, FIRST_ARGUMENT, SECOND_ARGUMENT, FIFTH_ARGUMENT = (
    0,
    4,
    16,
    24,
    48,
)  # offsets in struct seccomp_data; its low half on little-endian machines
NEWEST = 442  # mount_setattr; everything from here on is refused (x32's numbers too: they start at 2**30)
CLONE_NEWCGROUP, CLONE_PARENT = 0x02000000, 0x00008000
AF_UNIX, SOCK_STREAM, SOCK_TYPES = 1, 1, 0xF
AND = 0x54
TRUNCATE_ABI = 3  # of Landlock
NAMESPACES = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWCGROUP

# name: (x86_64, aarch64); None: the machine has no such call.
# fmt: off
REFUSED: dict[str, tuple[int | None, int | None]] = {
    "socket": (41, 198), "connect": (42, 203), "accept": (43, 202), "accept4": (288, 242), "bind": (49, 200),
    "listen": (50, 201), "sendmsg": (46, 211), "sendmmsg": (307, 269),
    "execve": (59, 221), "execveat": (322, 281), "memfd_create": (319, 279),
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272),
    "pidfd_send_signal": (424, 424), "pidfd_open": (434, 434), "pidfd_getfd": (438, 438), "process_madvise": (440, 440),
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "unshare": (272, 97),
    "setns": (308, 268), "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430),
    "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433), "mknod": (133, None), "mknodat": (259, 33),
    "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265), "fanotify_init": (300, 262),
    "quotactl": (179, 60), "quotactl_fd": (443, 443), "nfsservctl": (180, 42), "lookup_dcookie": (212, 18),
    "kexec_load": (246, 104), "kexec_file_load": (320, 294), "init_module": (175, 105), "finit_module": (313, 273),
    "delete_module": (176, 106), "create_module": (174, None), "reboot": (169, 142), "swapon": (167, 224),
    "swapoff": (168, 225), "acct": (163, 89), "syslog": (103, 116), "vhangup": (153, 58), "iopl": (172, None),
    "ioperm": (173, None), "modify_ldt": (154, None), "personality": (135, 92),
    "sethostname": (170, 161), "setdomainname": (171, 162), "settimeofday": (164, 170), "clock_settime": (227, 112),
    "adjtimex": (159, 171), "clock_adjtime": (305, 266),
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219), "bpf": (321, 280),
    "perf_event_open": (298, 241), "userfaultfd": (323, 282), "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426), "io_uring_register": (427, 427), "move_pages": (279, 239),
    "migrate_pages": (256, 238),
    "shmget": (29, 194), "semget": (64, 190), "msgget": (68, 186), "mq_open": (240, 180),  # outlive their process
    "shmat": (30, 196), "shmctl": (31, 195), "shmdt": (67, 197), "semop": (65, 193), "semctl": (66, 191),
    "semtimedop": (220, 192), "msgsnd": (69, 189), "msgrcv": (70, 188), "msgctl": (71, 187), "mq_unlink": (241, 181),
    "mq_timedsend": (242, 182), "mq_timedreceive": (243, 183), "mq_notify": (244, 184), "mq_getsetattr": (245, 185),
    "inotify_init": (253, None), "inotify_init1": (294, 26), "inotify_add_watch": (254, 27),
    "fanotify_mark": (301, 263),
    "setpriority": (141, 140), "ioprio_set": (251, 30), "sched_setscheduler": (144, 119), "sched_setparam": (142, 118),
    "sched_setattr": (314, 274), "sched_setaffinity": (203, 122), "set_mempolicy": (238, 237), "mbind": (237, 235),
    "seccomp": (317, 277), "uselib": (134, None), "_sysctl": (156, None), "sysfs": (139, None), "ustat": (136, None),
    "setuid": (105, 146), "setgid": (106, 144), "setreuid": (113, 145), "setregid": (114, 143), "setgroups": (116, 159),
    "setresuid": (117, 147), "setresgid": (119, 149), "setfsuid": (122, 151), "setfsgid": (123, 152),
    "capset": (126, 91),
    # A disk's writes keep a process that asked for them beyond any kill; asynchronous reads are counted per machine.
    "sync": (162, 81), "syncfs": (306, 267), "io_setup": (206, 0), "io_submit": (209, 2),
}
ATTRIBUTES = {  # extended attributes: not supported, which shutil.copy2 takes for an answer
    "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7), "getxattr": (191, 8), "lgetxattr": (192, 9),
    "fgetxattr": (193, 10), "listxattr": (194, 11), "llistxattr": (195, 12), "flistxattr": (196, 13),
    "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16),
}
TIMES = {"utime": (132, None), "utimes": (235, None), "futimesat": (261, None), "utimensat": (280, 88)}
TRUNCATE = {"truncate": (76, 45)}
SENDTO, SOCKETPAIR = {"x86_64": 44, "aarch64": 206}, {"x86_64": 53, "aarch64": 199}
PR_SCHED_CORE, F_SETLEASE, F_NOTIFY = 62, 1024, 1026
FCNTL = {"x86_64": 72, "aarch64": 25}
CLONE, CLONE3, PRCTL = {"x86_64": 56, "aarch64": 220}, 435, {"x86_64": 157, "aarch64": 167}
# fmt: on


def program() -> bytes:
    """The filter for this machine: struct sock_filter after struct sock_filter."""
    name = machine()
    code = [
        _op(LOAD, ARCH),
        _op(EQUAL, ARCHITECTURE[name], 1, 0),
        _op(RETURN, KILL),  # a 32-bit call: its numbers mean other things
        _op(LOAD, NUMBER),
        *_refuse(AT_LEAST, NEWEST, ENOSYS),
        *_refuse(EQUAL, CLONE3, ENOSYS),  # its flags are out of a filter's sight; libc falls back on clone
    ]
    refused = REFUSED if landlock_abi() >= TRUNCATE_ABI else REFUSED | TRUNCATE
    for calls, error in ((refused, EPERM), (ATTRIBUTES, ENOTSUP), (TIMES, 0)):
        for number in _numbers(calls, name):
            code += _refuse(EQUAL, number, error)
    code += _when(CLONE[name], _refuse(ANY_BIT, NAMESPACES | CLONE_PARENT, EPERM))
    for option in (PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER, PR_SCHED_CORE):
        code += _when(PRCTL[name], _refuse(EQUAL, option, EPERM))
    for command in (F_SETLEASE, F_NOTIFY):
        code += _when(FCNTL[name], _refuse(EQUAL, command, EPERM), SECOND_ARGUMENT)
    code += _when(SENDTO[name], _nothing_but(0), FIFTH_ARGUMENT)
    code += _when(SENDTO[name], _nothing_but(0), FIFTH_ARGUMENT + 4)  # the upper half of the address
    code += _when(SOCKETPAIR[name], _nothing_but(AF_UNIX))
    code += _when(SOCKETPAIR[name], [_op(AND, SOCK_TYPES), *_nothing_but(SOCK_STREAM)], SECOND_ARGUMENT)
    code.append(_op(RETURN, ALLOW))
    return b"".join(code)


def _numbers(calls: Mapping[str, tuple[int | None, int | None]], name: str) -> list[int]:
    column = list(ARCHITECTURE).index(name)
    return sorted(number for row in calls.values() if (number := row[column]) is not None and number < NEWEST)


def _op(code: int, value: int, true: int = 0, false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, true, false, value)


def _refuse(test: int, value: int, error: int) -> list[bytes]:
    return [_op(test, value, 0, 1), _op(RETURN, ERRNO | error)]


def _nothing_but(value: int) -> list[bytes]:
    return [_op(EQUAL, value, 1, 0), _op(RETURN, ERRNO | EPERM)]


def _when(number: int, rules: list[bytes], argument: int = FIRST_ARGUMENT) -> list[bytes]:
    """Rules on the low half of one argument of one call; the number is loaded again behind them."""
    body = [_op(LOAD, argument), *rules, _op(LOAD, NUMBER)]
    return [_op(EQUAL, number, 0, len(body)), *body]
