"""The Linux calls behind the sandbox: namespaces, an empty root, no capabilities, a system-call filter, limits."""

import ctypes
import os
import platform
import resource
import struct

CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS = 0x00020000, 0x02000000, 0x04000000
CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x08000000, 0x10000000, 0x20000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_REC, MS_PRIVATE = 1, 2, 4, 8, 32, 16384, 1 << 18
MNT_DETACH = 2
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_CAPBSET_DROP, PR_SET_SECUREBITS = 1, 4, 22, 24, 28
PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 38, 2
# No capabilities for user 0, no change of that, and the same for the other bits.
SECUREBITS_LOCKED = 0b11111111 & ~0b00110000
LAST_CAPABILITY = 63
INSIDE_ID = 1000
# Whom the sandbox is outside, when root starts it: a limit on processes does not hold for root.
NOBODY = 65534

_libc = ctypes.CDLL(None, use_errno=True)


def call(name, *arguments):
    """A function of the C library; raises OSError with its name when it fails."""
    result = getattr(_libc, name)(*arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")
    return result


def prctl(option, a=0, b=0):
    """`prctl`, with whole words as the kernel reads them."""
    return call(
        "prctl",
        option,
        ctypes.c_ulong(a),
        b if isinstance(b, ctypes.c_void_p) else ctypes.c_ulong(b),
        ctypes.c_ulong(0),
        ctypes.c_ulong(0),
    )


def mount(source, target, kind, flags, options=None):
    call(
        "mount",
        source.encode(),
        target.encode(),
        kind.encode() if kind else None,
        ctypes.c_ulong(flags),
        options.encode() if options else None,
    )


def enter_user_namespace(flags):
    """Makes a user namespace and those of `flags`, with one user and one group inside."""
    user, group = os.geteuid(), os.getegid()
    if user != 0:
        call("unshare", CLONE_NEWUSER | flags)
        _write_maps("self", user, group)
    else:
        # Only a process outside may map another user than itself.
        pid = os.getpid()
        start = os.pipe()
        helper = os.fork()
        if helper == 0:
            status = 1
            try:
                os.close(start[1])
                if os.read(start[0], 1):
                    _write_maps(pid, NOBODY, NOBODY)
                    status = 0
            finally:
                os._exit(status)
        os.close(start[0])
        call("unshare", CLONE_NEWUSER | flags & ~CLONE_NEWPID)
        os.write(start[1], b"x")
        os.close(start[1])
        _, status = os.waitpid(helper, 0)
        if status != 0:
            raise OSError("the user namespace could not be given its user")
        if flags & CLONE_NEWPID:
            call("unshare", CLONE_NEWPID)
    os.setresgid(INSIDE_ID, INSIDE_ID, INSIDE_ID)
    os.setresuid(INSIDE_ID, INSIDE_ID, INSIDE_ID)


def _write_maps(pid, user, group):
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{INSIDE_ID} {user} 1"),
        ("gid_map", f"{INSIDE_ID} {group} 1"),
    ):
        with open(f"/proc/{pid}/{name}", "w") as file:
            file.write(text)


def forbid_user_namespaces():
    """None inside this one; where /proc is read-only the filter of system calls alone sees to it."""
    try:
        with open("/proc/sys/user/max_user_namespaces", "w") as file:
            file.write("0")
    except OSError:
        pass


def enter_empty_root():
    """An empty, read-only file system in place of the machine's."""
    mount("none", "/", None, MS_REC | MS_PRIVATE)
    mount("none", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=16k,nr_inodes=4,mode=555")
    os.chdir("/tmp")
    call("pivot_root", b".", b".")
    call("umount2", b".", MNT_DETACH)
    os.chdir("/")
    mount("none", "/", None, MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC)


def drop_privileges():
    """No capability now or ever, no new privileges, no tracing by others."""
    for capability in range(LAST_CAPABILITY + 1):
        try:
            prctl(PR_CAPBSET_DROP, capability)
        except OSError:
            break
    prctl(PR_SET_SECUREBITS, SECUREBITS_LOCKED)
    header = struct.pack("=Ii", 0x20080522, 0)
    call("capset", header, bytes(24))
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    prctl(PR_SET_DUMPABLE, 0)


def limit(cpu_seconds, memory_bytes):
    """Limits of this process. It may make no other, and no file."""
    for kind, value in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_CPU, cpu_seconds),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 16),
        (resource.RLIMIT_STACK, 16 << 20),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
    ):
        _, hard = resource.getrlimit(kind)
        resource.setrlimit(kind, (value, value) if hard == resource.RLIM_INFINITY else (min(value, hard),) * 2)


# Calls that code under test has no need of: processes, programs, sockets, tracing, mounts, namespaces, keys, modules,
# shared memory, and interfaces with a history of holes. Numbers: (x86_64, aarch64); None where there is no such call.
_FORBIDDEN = {
    "clone": (56, 220),
    "fork": (57, None),
    "vfork": (58, None),
    "clone3": (435, 435),
    "execve": (59, 221),
    "execveat": (322, 281),
    "socket": (41, 198),
    "socketpair": (53, 199),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "unshare": (272, 97),
    "setns": (308, 268),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "mount_setattr": (442, 442),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "kexec_load": (246, 104),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "shmget": (29, 194),
    "msgget": (68, 186),
    "semget": (64, 190),
    "mq_open": (240, 180),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "open_by_handle_at": (304, 265),
    "ioctl": (16, 29),
    "personality": (135, 92),
    "seccomp": (317, 277),
    "prctl": (157, 167),
}
_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}


def filter_system_calls():
    """Refuses the calls above with EPERM from here on. On other processors the namespaces stand alone."""
    if platform_machine not in _ARCHITECTURES:
        return
    column, architecture = _ARCHITECTURES[platform_machine]
    numbers = sorted(row[column] for row in _FORBIDDEN.values() if row[column] is not None)
    load, equal, greater, give = 0x20, 0x15, 0x35, 0x06
    kill, refuse, allow = 0x80000000, 0x00050001, 0x7FFF0000
    count = len(numbers)
    program = [(load, 0, 0, 4), (equal, 1, 0, architecture), (give, 0, 0, kill), (load, 0, 0, 0)]
    # Another way of numbering on x86_64 begins here.
    program.append((greater, count + 1, 0, 0x40000000))
    program += [(equal, count - index, 0, number) for index, number in enumerate(numbers)]
    program += [(give, 0, 0, allow), (give, 0, 0, refuse)]
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    header = ctypes.create_string_buffer(struct.pack("@HP", len(program), ctypes.addressof(buffer)))
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.c_void_p(ctypes.addressof(header)))


# Asked before the file system is gone.
platform_machine = platform.machine()
