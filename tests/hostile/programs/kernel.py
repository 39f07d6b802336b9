"""Attempts on the kernel's surface: system calls, settings, devices, privileges.

Call numbers are those of x86_64, ``asm/unistd_64.h``. What an attempt would do if it were not
refused is kept harmless where it can be: the clock is set to the present time, and ``reboot`` only
asks for what Ctrl-Alt-Delete does.
"""

from __future__ import annotations

from collections.abc import Mapping

from tests.support.hostile.case import Probe
from tests.support.sandbox.runtimes import BUBBLEWRAP, CONFINED, GVISOR

_SENTRY = (
    "the sentry, gVisor's own kernel, serves it within the box; the host's kernel never sees it"
)
_KEEPER = {
    BUBBLEWRAP: "PID 1 is `bwrap`, of the same user: what dies then is its own box",
    GVISOR: _SENTRY,
}
_IN_SENTRY: Mapping[str, str] = {GVISOR: _SENTRY}


def _call(name: str, tries: str, arguments: str, *, sentry: bool = False) -> Probe:
    return Probe(
        name, tries, f"syscall({arguments})", _IN_SENTRY if sentry else {}, machine="x86_64"
    )


def _write(name: str, path: str, text: str = "1") -> Probe:
    return Probe(name, f"write `{path}`", f"write({path!r}, {text!r})")


_CALLS = (
    _call("ptrace-first-process", "trace PID 1", "101, 16, 1, 0, 0"),
    _call("ptrace-traceme", "be traced by its parent", "101, 0, 0, 0, 0", sentry=True),
    _call(
        "ptrace-seize-parent", "trace its parent", "101, 0x4206, os.getppid(), 0, 0", sentry=True
    ),
    _call("process-vm-readv", "read another process", "310, os.getppid(), 0, 0, 0, 0, 0"),
    _call("process-vm-writev", "write to another process", "311, os.getppid(), 0, 0, 0, 0, 0"),
    _call("pidfd-getfd", "take another's descriptor", "438, syscall(434, 1, 0), 0, 0"),
    _call("kcmp", "compare kernel objects", "312, 1, os.getpid(), 0, 0, 0"),
    _call(
        "io-uring",
        "system calls past the filter",
        "425, 1, ctypes.create_string_buffer(120)",
        sentry=True,
    ),
    _call(
        "bpf-map",
        "load BPF",
        "321, 0, ctypes.create_string_buffer(b'\\2\\0\\0\\0\\4\\0\\0\\0\\4\\0\\0\\0\\1', 128), 128",
    ),
    _call(
        "perf-event-open", "observe the CPU", "298, ctypes.create_string_buffer(128), 0, -1, -1, 0"
    ),
    _call("userfaultfd", "hold the kernel at a page fault", "323, 0"),
    _call("keyctl", "the session's keys", "250, 0, -3, 0, 0, 0"),
    _call("add-key", "store a key", "248, b'user', b'name', b'x', 1, -3"),
    _call("request-key", "have the host's helper run", "249, b'user', b'name', b'x', -3"),
    _call("unshare-user", "a user namespace", "272, 0x10000000", sentry=True),
    _call("unshare-mount", "a mount namespace", "272, 0x00020000", sentry=True),
    _call("unshare-network", "a network namespace", "272, 0x40000000"),
    _call("clone-user", "the same by clone", "56, 0x10000011, 0, 0, 0, 0", sentry=True),
    _call(
        "clone3-user",
        "the same by clone3",
        "435, ctypes.create_string_buffer("
        "struct.pack('<11Q', 0x10000000, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0)), 88",
    ),
    _call("setns", "the namespaces of PID 1", "308, os.open('/proc/1/ns/mnt', 0), 0"),
    _call("setns-pidfd", "the same by pidfd", "308, syscall(434, os.getppid(), 0), 0x00020000"),
    _call("mount-tmpfs", "mount", "165, b'none', b'/tmp', b'tmpfs', 0, 0"),
    _call("mount-proc", "mount another /proc", "165, b'proc', b'/tmp', b'proc', 0, 0"),
    _call("mount-bind", "bind the root elsewhere", "165, b'/', b'/tmp', 0, 0x1000, 0"),
    _call("mount-writable", "make the root writable", "165, 0, b'/', 0, 0x1020, 0"),
    _call("umount", "unmount what hides the host", "166, b'/proc/sys', 2"),
    _call("fsopen", "mount by the new interface", "430, b'tmpfs', 0"),
    _call("open-tree", "clone the mounts", "428, -100, b'/', 1"),
    _call("mount-setattr", "make mounts writable", "442, -100, b'/', 0, 0, 0"),
    _call("pivot-root", "another root", "155, b'/', b'/'"),
    _call("chroot", "the chroot escape", "161, b'/tmp'"),
    _call(
        "name-to-handle",
        "a handle of a file",
        "303, -100, b'/etc/passwd', ctypes.create_string_buffer(struct.pack('<Ii', 128, 0), 136), "
        "ctypes.create_string_buffer(4), 0",
    ),
    _call(
        "open-by-handle",
        "any file of the disk by its inode",
        "304, os.open('/', 0), ctypes.create_string_buffer(struct.pack('<IiQ', 8, 1, 2)), 0",
    ),
    _call("init-module", "load a module", "175, b'', 0, b''"),
    _call("finit-module", "load a module from a file", "313, 0, b'', 0"),
    _call("delete-module", "unload a module", "176, b'ext4', 0"),
    _call("kexec-load", "start another kernel", "246, 0, 0, 0, 0"),
    _call("reboot", "the call that reboots", "169, 0xfee1dead, 672274793, 0, 0"),
    _call("swapon", "swap to a file", "167, b'/tmp/swap', 0"),
    _call("acct", "process accounting", "163, 0"),
    _call("quotactl", "disk quotas", "179, 0x800002, b'/dev/vda', 0, 0"),
    _call(
        "clock-settime",
        "set the clock",
        "227, 0, ctypes.create_string_buffer(struct.pack('<qq', int(time.time()), 0))",
    ),
    _call(
        "settimeofday",
        "set the clock the old way",
        "164, ctypes.create_string_buffer(struct.pack('<qq', int(time.time()), 0)), 0",
    ),
    _call(
        "adjtimex",
        "bend the clock",
        "159, ctypes.create_string_buffer(struct.pack('<IxxxxqQ', 2, 1000, 0), 208)",
    ),
    _call("sethostname", "name the host", "170, b'owned', 5"),
    _call("setdomainname", "name its domain", "171, b'owned', 5"),
    _call("iopl", "the machine's ports", "172, 3"),
    _call("ioperm", "some of its ports", "173, 0x80, 1, 1"),
    _call("modify-ldt", "16-bit code segments", "154, 1, ctypes.create_string_buffer(16), 16"),
    _call("syslog-clear", "clear the kernel's messages", "103, 5, 0, 0"),
    _call("fanotify", "watch all files", "300, 0, 0"),
    _call("memfd-secret", "memory that the host cannot see", "447, 0"),
    _call(
        "mq-open", "a queue outside of the limits", "240, b'queue', 0o102, 0o600, 0", sentry=True
    ),
    _call("move-pages", "where its pages lie", "279, 0, 0, 0, 0, 0, 0", sentry=True),
    _call("vhangup", "hang the terminal up", "153"),
    _call("lookup-dcookie", "names by cookie", "212, 0, 0, 0"),
    _call("setuid", "be root", "105, 0"),
    _call("setgroups", "root's groups", "116, 1, ctypes.create_string_buffer(4)"),
    _call(
        "capset",
        "capabilities",
        "126, ctypes.create_string_buffer(struct.pack('<Ii', 0x20080522, 0)), "
        "ctypes.create_string_buffer(b'\\xff' * 24)",
    ),
    _call("priority", "a higher priority", "141, 0, 0, -20", sentry=True),
    _call(
        "real-time",
        "real-time scheduling",
        "144, 0, 1, ctypes.create_string_buffer(struct.pack('<i', 50))",
    ),
    _call(
        "more-files",
        "a higher limit of files",
        "302, 0, 7, ctypes.create_string_buffer(struct.pack('<QQ', 1 << 20, 1 << 20)), 0",
    ),
    _call(
        "core-files",
        "no limit of core files",
        "302, 0, 4, ctypes.create_string_buffer(struct.pack('<QQ', 1 << 30, 1 << 30)), 0",
    ),
    _call("unknown-call", "a call that no table knows", "1000, 0, 0, 0"),
    _call("x32", "the x32 interface", "0x40000000 | 39"),
)

_INTERFACES = (
    Probe(
        "int80",
        "the 32-bit interface, past the filter",
        """\
import mmap
code = mmap.mmap(-1, 4096, prot=7)
code.write(b"\\xb8\\x14\\0\\0\\0\\xcd\\x80\\xc3")  # getpid by int 0x80
address = ctypes.addressof(ctypes.c_char.from_buffer(code))
reached(ctypes.CFUNCTYPE(ctypes.c_int)(address)() == os.getpid())
""",
        machine="x86_64",
    ),
    Probe(
        "persona",
        "the personality of an older kernel, without address randomisation",
        "reached(libc.personality(0x0040000) >= 0)",
        open_on={
            BUBBLEWRAP: "it weakens the program itself, nobody else",
            CONFINED: "it weakens the program itself, nobody else",
            GVISOR: _SENTRY,
        },
        machine="x86_64",
    ),
    Probe(
        "terminal-injection",
        "type into the host's terminal",
        "import fcntl\nfcntl.ioctl(os.open('/dev/tty', os.O_RDWR), 0x5412, b'x')",
    ),
    Probe(
        "preload",
        "have a set-id program load its library",
        """\
import subprocess
os.environ['LD_PRELOAD'] = '/tmp/evil.so'
for path in glob.glob('/usr/bin/*') + glob.glob('/bin/*'):
    mode = os.stat(path).st_mode
    if mode & 0o6000:
        done = subprocess.run([path, '--help'], capture_output=True, timeout=1)
status = open('/proc/self/status').read()
reached('NoNewPrivs:\\t0' in status)
""",
    ),
    Probe(
        "own-set-id",
        "make a set-id program of its own give it rights",
        """\
import subprocess
write('/tmp/tool', '#!/bin/sh\\nid -u\\n')
os.chmod('/tmp/tool', 0o6755)
reached(subprocess.check_output(['/tmp/tool'], text=True).strip() == '0')
""",
    ),
    Probe(
        "splice-into-read-only",
        "write to a read-only file through a pipe that shares its page (Dirty Pipe)",
        """\
before = open('/etc/passwd', 'rb').read(16)
file = os.open('/etc/passwd', os.O_RDONLY)
read, written = os.pipe()
capacity = 65536
os.write(written, b'x' * capacity); os.read(read, capacity)
os.splice(file, written, 1, offset_src=0)
os.write(written, b'QLP')
os.lseek(file, 0, 0)
reached(os.read(file, 16) != before)
""",
    ),
    Probe(
        "copy-on-write-race",
        "write to a read-only mapping through /proc/self/mem",
        """\
import mmap
file = os.open('/etc/passwd', os.O_RDONLY)
page = mmap.mmap(file, 16, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ)
maps = [line for line in open('/proc/self/maps') if line.rstrip().endswith('/etc/passwd')]
memory = os.open('/proc/self/mem', os.O_RDWR)
os.pwrite(memory, b'QLP', int(maps[-1].split('-')[0], 16))
""",
    ),
    Probe(
        "device-block",
        "make a block device",
        "os.mknod('/tmp/disk', 0o60666, os.makedev(254, 0))",
        open_on=_IN_SENTRY,
    ),
    Probe(
        "device-memory",
        "make the device of the machine's memory",
        "os.mknod('/tmp/mem', 0o20666, os.makedev(1, 1)); os.open('/tmp/mem', os.O_RDONLY)",
    ),
    Probe("kvm", "the virtualisation device", "os.open('/dev/kvm', os.O_RDWR)"),
    Probe("fuse", "the FUSE device", "os.open('/dev/fuse', os.O_RDWR)", open_on=_IN_SENTRY),
    Probe("loop-control", "loop devices", "os.open('/dev/loop-control', os.O_RDWR)"),
    Probe(
        "immutable",
        "make a file that cannot be deleted",
        "import fcntl\nfile = os.open('/tmp/i', os.O_CREAT | os.O_RDWR)\n"
        "fcntl.ioctl(file, 0x40086602, struct.pack('l', 0x10))",
    ),
    Probe(
        "trusted-attribute",
        "give a file capabilities",
        "open('/tmp/c', 'w').close()\n"
        "held = bytes.fromhex('0100000202000000') + bytes(12)\n"
        "os.setxattr('/tmp/c', 'security.capability', held)",
    ),
    Probe(
        "owner",
        "give a file to root",
        "open('/tmp/o', 'w').close()\nos.chown('/tmp/o', 0, 0)",
    ),
    Probe(
        "protected-from-oom",
        "have the kernel spare it when memory ends",
        "write('/proc/self/oom_score_adj', '-1000')",
        open_on=_IN_SENTRY,
    ),
    Probe(
        "uid-map",
        "map itself to root",
        "write('/proc/self/uid_map', '0 0 1')",
    ),
)

_FILES = (
    *(
        _write(path.strip("/").replace("/", "-").replace("_", "-"), path, text)
        for path, text in (
            ("/proc/sys/kernel/hostname", "owned"),
            ("/proc/sys/kernel/core_pattern", "|/tmp/evil"),
            ("/proc/sys/kernel/modprobe", "/tmp/evil"),
            ("/proc/sys/kernel/sysrq", "1"),
            ("/proc/sys/kernel/pid_max", "4194303"),
            ("/proc/sys/kernel/shmmax", "18446744073692774398"),
            ("/proc/sys/kernel/randomize_va_space", "0"),
            ("/proc/sys/vm/overcommit_memory", "1"),
            ("/proc/sys/vm/drop_caches", "3"),
            ("/proc/sys/fs/file-max", "9000000"),
            ("/proc/sys/fs/suid_dumpable", "2"),
            ("/proc/sys/fs/mqueue/msg_max", "11"),
            ("/proc/sys/net/ipv4/ip_forward", "1"),
            ("/proc/sys/net/core/rmem_max", "212993"),
            ("/proc/sys/user/max_user_namespaces", "99999"),
            ("/proc/sysrq-trigger", "s"),
            ("/proc/1/comm", "owned"),
            ("/proc/irq/default_smp_affinity", "3"),
            ("/sys/kernel/uevent_helper", "/tmp/evil"),
            ("/sys/fs/cgroup/memory/release_agent", "/tmp/evil"),
            ("/sys/fs/cgroup/rdma/release_agent", "/tmp/evil"),
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "-1"),
            ("/sys/fs/cgroup/memory.max", "max"),
            ("/sys/fs/cgroup/pids/pids.max", "max"),
            ("/sys/module/printk/parameters/time", "N"),
            ("/sys/block/vda/queue/scheduler", "none"),
            ("/usr/bin/evil", "x"),
            ("/etc/passwd", "root::0:0::/:/bin/sh"),
            ("/etc/ld.so.preload", "/tmp/evil.so"),
            ("/evil", "x"),
            ("/dev/evil", "x"),
        )
    ),
    Probe(
        "first-process-as-victim",
        "make PID 1 what the kernel takes first when memory ends",
        "write('/proc/1/oom_score_adj', '1000')",
        open_on=_KEEPER,
    ),
    Probe(
        "own-cgroup",
        "move to another cgroup",
        """\
for path in glob.glob('/sys/fs/cgroup/**/cgroup.procs', recursive=True):
    try: write(path, '0'); break
    except OSError: pass
else: raise Refused
""",
    ),
)

PROBES = (*_CALLS, *_INTERFACES, *_FILES)
