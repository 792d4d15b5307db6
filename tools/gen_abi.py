"""Writes sentry/abi/*.py: Linux constants, one module a kernel header, as the C compiler sees them.

    python tools/gen_abi.py            rewrite the modules
    python tools/gen_abi.py --check    exit 1 when one differs from what the compiler says

Each module below names its headers and the macros (regular expressions) and enum constants it takes from them.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ABI = Path(__file__).resolve().parent.parent / "sentry" / "abi"


class Module(NamedTuple):
    headers: str
    patterns: str  # macros whose whole name matches
    enums: str = ""  # names that the preprocessor does not know as macros
    skip: str = ""


MODULES: dict[str, Module] = {
    "errno": Module("errno.h", r"E[A-Z0-9]+"),
    "fcntl": Module(
        "linux/fcntl.h fcntl.h linux/falloc.h linux/openat2.h linux/fs.h linux/close_range.h",
        r"(O|F|AT|FD|S|LOCK|DN|FALLOC_FL|RESOLVE|SEEK|RENAME|CLOSE_RANGE|SPLICE_F|POSIX_FADV|SYNC_FILE_RANGE|RWF|"
        r"FS_[A-Z0-9_]+_FL)_?[A-Z0-9_]+|FICLONE|FICLONERANGE|FIDEDUPERANGE|FIBMAP|FIGETBSZ|FIFREEZE|FITHAW|FITRIM|"
        r"FS_IOC_[A-Z0-9_]+|BLK[A-Z0-9]+|NR_OPEN|NAME_MAX|PATH_MAX",
        skip=r"F_OK|SI?_.*",
    ),
    "stat": Module("sys/stat.h linux/stat.h", r"(S_I[A-Z]+|STATX_[A-Z_]+|UTIME_[A-Z]+)", skip=r"S_I(READ|WRITE|EXEC)"),
    "mman": Module(
        "sys/mman.h linux/mman.h linux/memfd.h",
        r"(PROT|MAP|MREMAP|MADV|MS|MCL|MLOCK|MFD|PKEY)_[A-Z0-9_]+",
        skip=r"MAP_HUGE_.*|MFD_HUGE_.*|MAP_ANON",
    ),
    "signal": Module(
        "asm/signal.h linux/signal.h asm-generic/siginfo.h asm/sigcontext.h asm/ucontext.h sys/signalfd.h",
        r"(SIG_?[A-Z0-9]+|SA_[A-Z_]+|SI_[A-Z]+|SIGEV_[A-Z_]+|SS_[A-Z]+|CLD_[A-Z]+|SEGV_[A-Z]+|BUS_[A-Z_]+|FPE_[A-Z]+|ILL_[A-Z]+|"
        r"TRAP_[A-Z]+|POLL_[A-Z]+|MINSIGSTKSZ|SIGSTKSZ|FP_XSTATE_MAGIC[12]|FP_XSTATE_MAGIC2_SIZE|UC_[A-Z0-9_]+|SYS_SECCOMP)", enums="SFD_CLOEXEC SFD_NONBLOCK SIGRTMAX",
    ),
    "sched": Module("linux/sched.h sched.h", r"(CLONE|SCHED)_[A-Z0-9_]+", skip=r"CLONE_ARGS_.*"),
    "wait": Module("linux/wait.h", r"W[A-Z]+|P_[A-Z]+|__W[A-Z]+"),
    "poll": Module(
        "poll.h linux/eventpoll.h sys/eventfd.h",
        r"(POLL[A-Z]+|EPOLL_?[A-Z_]+)",
        enums="EPOLLIN EPOLLPRI EPOLLOUT EPOLLERR EPOLLHUP EPOLLRDHUP EFD_SEMAPHORE EFD_CLOEXEC EFD_NONBLOCK",
    ),
    "socket": Module(
        "sys/socket.h linux/sockios.h sys/un.h netinet/in.h netinet/tcp.h netinet/udp.h linux/if.h",
        r"(AF|PF|SO|SOL|MSG|SCM|SHUT|IPPROTO|IP|IPV6|TCP|UDP|SIO|INADDR|IFF|SIOCG|SIOCS|SIOCA|SIOCD)_?[A-Z0-9_]+|SOMAXCONN|IFNAMSIZ",
        enums="SOCK_STREAM SOCK_DGRAM SOCK_RAW SOCK_RDM SOCK_SEQPACKET SOCK_CLOEXEC SOCK_NONBLOCK SCM_RIGHTS SCM_CREDENTIALS "
        "SHUT_RD SHUT_WR SHUT_RDWR MSG_OOB MSG_PEEK MSG_DONTROUTE MSG_CTRUNC MSG_PROXY MSG_TRUNC MSG_DONTWAIT MSG_EOR "
        "MSG_WAITALL MSG_FIN MSG_SYN MSG_CONFIRM MSG_RST MSG_ERRQUEUE MSG_NOSIGNAL MSG_MORE MSG_WAITFORONE "
        "MSG_CMSG_CLOEXEC MSG_BATCH MSG_ZEROCOPY MSG_FASTOPEN IFF_UP IFF_LOOPBACK IFF_RUNNING IFF_BROADCAST IFF_MULTICAST "
        "IPPROTO_IP IPPROTO_ICMP IPPROTO_TCP IPPROTO_UDP IPPROTO_IPV6 IPPROTO_RAW IPPROTO_ICMPV6 IPPROTO_MAX IFF_LOWER_UP "
        "TCP_ESTABLISHED TCP_SYN_SENT TCP_SYN_RECV TCP_FIN_WAIT1 TCP_FIN_WAIT2 TCP_TIME_WAIT TCP_CLOSE TCP_CLOSE_WAIT "
        "TCP_LAST_ACK TCP_LISTEN TCP_CLOSING",
        skip=r"TCPI?_OPTIONS?.*",
    ),
    "netlink": Module(
        "linux/netlink.h linux/rtnetlink.h linux/if_addr.h linux/if_link.h linux/neighbour.h linux/if_arp.h",
        r"(NETLINK|NLM|NLMSG|RTM|RTN|RTNH|RTPROT|RTA|IFLA|IFA|NUD|NTF|ARPHRD|RTMGRP|RT_TABLE|RT_SCOPE)_[A-Z0-9_]+",
        enums="RTM_NEWLINK RTM_GETLINK RTM_NEWADDR RTM_GETADDR RTM_NEWROUTE RTM_GETROUTE IFLA_ADDRESS IFLA_BROADCAST "
        "IFLA_IFNAME IFLA_MTU IFLA_TXQLEN IFLA_OPERSTATE IFA_ADDRESS IFA_LOCAL IFA_LABEL IFA_BROADCAST IFA_FLAGS "
        "RTN_UNICAST RTN_LOCAL RTA_DST RTA_OIF RTA_GATEWAY RTA_TABLE RTA_PREFSRC RT_SCOPE_UNIVERSE RT_SCOPE_LINK "
        "RT_SCOPE_HOST RT_TABLE_MAIN RT_TABLE_LOCAL RT_TABLE_UNSPEC RTN_UNSPEC RTN_BROADCAST RTN_MULTICAST RTN_UNREACHABLE "
        "IFLA_QDISC IFLA_STATS IFLA_STATS64 IFLA_LINKMODE IFLA_GROUP IFLA_CARRIER IFLA_NUM_TX_QUEUES IFLA_NUM_RX_QUEUES "
        "IFLA_EXT_MASK IFA_CACHEINFO RTA_SRC RTA_IIF RTA_PRIORITY RTA_METRICS RTA_CACHEINFO RTA_PREF NDA_DST NDA_LLADDR NDA_CACHEINFO "
        "RTM_NEWNEIGH RTM_GETNEIGH RTM_NEWRULE RTM_GETRULE NLMSGERR_ATTR_MSG",
    ),
    "ioctl": Module(
        "asm/ioctls.h asm/termbits.h linux/tty.h linux/kd.h linux/vt.h linux/nsfs.h",
        r"(T[A-Z0-9]+|FIO[A-Z]+|N_TTY|V[A-Z0-9]+|[IOB][A-Z0-9]+|X[A-Z]+|ECHO[A-Z]*|ICANON|ISIG|NOFLSH|C[A-Z0-9]+|HUPCL|PAR[A-Z]+|"
        r"NL[01]|FF[01]|FLUSHO|PENDIN|EXTPROC|KD[A-Z]+|NCCS|NS_GET_[A-Z_]+)",
        skip=r"B|TTY.*|CHAR_.*",
    ),
    "prctl": Module("linux/prctl.h asm/prctl.h linux/personality.h", r"(PR|ARCH)_[A-Z0-9_]+|ADDR_[A-Z_]+|READ_IMPLIES_EXEC|UNAME26|PER_MASK",
        enums="ADDR_NO_RANDOMIZE ADDR_COMPAT_LAYOUT READ_IMPLIES_EXEC PER_LINUX PER_MASK"),
    "capability": Module("linux/capability.h", r"(CAP|_LINUX_CAPABILITY)_[A-Z0-9_]+|_LINUX_CAPABILITY_VERSION_[123]"),
    "time": Module("linux/time.h linux/timerfd.h linux/timex.h time.h sys/timerfd.h", r"(CLOCK|ITIMER|TIMER|TFD|ADJ|STA|TIME)_[A-Z0-9_]+",
        enums="TFD_CLOEXEC TFD_NONBLOCK"),
    "resource": Module("linux/resource.h", r"(RLIMIT|RLIM|RUSAGE|PRIO)_[A-Z0-9_]+|RLIM64_INFINITY|_STK_LIM"),
    "futex": Module("linux/futex.h linux/rseq.h linux/membarrier.h", r"(FUTEX|FUTEX2|ROBUST|RSEQ)_[A-Z0-9_]+",
        enums="RSEQ_FLAG_UNREGISTER MEMBARRIER_CMD_QUERY MEMBARRIER_CMD_GLOBAL MEMBARRIER_CMD_GLOBAL_EXPEDITED "
        "MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED MEMBARRIER_CMD_PRIVATE_EXPEDITED "
        "MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE "
        "MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ "
        "MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ MEMBARRIER_CMD_FLAG_CPU"),
    "ipc": Module("linux/ipc.h linux/shm.h linux/sem.h linux/msg.h linux/mqueue.h", r"(IPC|SHM|SEM|MSG|MQ)_?[A-Z0-9_]+|GET[A-Z]+|SETVAL|SETALL|NOTIFY_[A-Z_]+"),
    "mount": Module("linux/mount.h sys/mount.h", r"(MS|MNT|UMOUNT|ST|MOUNT|FSOPEN|FSMOUNT|FSPICK|OPEN_TREE|MOVE_MOUNT)_[A-Z0-9_]+",
        enums="MNT_FORCE MNT_DETACH MNT_EXPIRE UMOUNT_NOFOLLOW"),
    "statfs": Module("linux/magic.h sys/statvfs.h", r"[A-Z0-9_]+_(SUPER_)?MAGIC|ST_[A-Z]+",
        enums="ST_RDONLY ST_NOSUID ST_NODEV ST_NOEXEC ST_RELATIME"),
    "xattr": Module("linux/xattr.h linux/limits.h", r"XATTR_[A-Z0-9_]+", skip=r".*PREFIX.*|XATTR_(NAME|.*)_(CAPS|POSIX.*)?$"),
    "inotify": Module("linux/inotify.h sys/inotify.h", r"IN_[A-Z0-9_]+", enums="IN_CLOEXEC IN_NONBLOCK"),
    "seccomp": Module("linux/seccomp.h linux/filter.h linux/audit.h", r"SECCOMP_[A-Z0-9_]+|BPF_[A-Z0-9_]+|AUDIT_ARCH_X86_64"),
    "ptrace": Module("linux/ptrace.h asm/ptrace-abi.h", r"PTRACE_[A-Z0-9_]+"),
    "elf": Module("linux/elf.h linux/auxvec.h linux/elf-em.h", r"(ET|PT|PF|EM|AT|EI|ELF|ELFCLASS|ELFDATA|SHN|DT|NT)_?[A-Z0-9_]+"),
    "random": Module("linux/random.h", r"(GRND|RND)[A-Z0-9_]+"),
    "sysno": Module("asm/unistd_64.h", r"__NR_[a-z0-9_]+"),
    "uio": Module("limits.h linux/uio.h sys/uio.h", r"UIO_[A-Z]+|IOV_MAX"),
    "ioprio": Module("linux/ioprio.h", r"IOPRIO_[A-Z_]+"),
}


def cc(source: str, *flags: str) -> str:
    done = subprocess.run(
        ["gcc", "-D_GNU_SOURCE", *flags, "-x", "c", "-"], input=source, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"cannot read headers with gcc: {done.stderr.splitlines()[:3]}")
    return done.stdout


def macros_of(header: str, module: Module) -> list[str]:
    """The macros of one header that the module takes, in alphabetical order."""
    macros = re.findall(r"^#define (\w+) +\S", cc(f"#include <{header}>\n", "-E", "-dM"), re.M)
    wanted = {m for m in macros if re.fullmatch(module.patterns, m)}
    if module.skip:
        wanted = {m for m in wanted if not re.fullmatch(module.skip, m)}
    return sorted(wanted | set(module.enums.split()))


def evaluate(header: str, names: list[str]) -> dict[str, int]:
    """The value of each name that is an integer constant with this header; the others are left out."""
    preludes = ["<stddef.h>", "<sys/types.h>", "<linux/types.h>", "<signal.h>"]
    first = "#include <asm/termbits.h>\n" if header == "asm/ioctls.h" else ""  # its numbers hold sizes of structures
    includes = next(
        (
            text
            for text in (f"#include {p}\n{first}#include <{header}>\n" for p in preludes)
            if subprocess.run(["gcc", "-D_GNU_SOURCE", "-w", "-fsyntax-only", "-x", "c", "-"], input=text.encode(),
                              capture_output=True, check=False).returncode == 0
        ),
        None,
    )
    if includes is None:
        sys.exit(f"cannot compile a file that includes only <{header}>")
    usable = names
    folder = tempfile.TemporaryDirectory()
    probe = Path(folder.name) / "probe"
    while usable:
        program = includes + "extern int printf(const char *, ...);\nint main(void){\n"
        program += "".join(
            f'#line {i + 1} "probe"\n{{enum {{ e = (({n}) * 1) != 0 }}; printf("{n} %lld\\n", (long long)({n}));}}\n'
            for i, n in enumerate(usable)
        )
        done = subprocess.run(
            ["gcc", "-D_GNU_SOURCE", "-w", "-fmax-errors=0", "-x", "c", "-", "-o", str(probe)],
            input=program + "return 0;}\n", capture_output=True, text=True, check=False,
        )
        if done.returncode == 0:
            break
        bad = {int(k) - 1 for k in re.findall(r"^probe:(\d+):\d+: error", done.stderr, re.M)}
        if not bad:
            sys.exit(f"cannot evaluate {header}: {done.stderr[:500]}")
        usable = [n for i, n in enumerate(usable) if i not in bad]
    if not usable:
        return {}
    out = subprocess.run([probe], capture_output=True, text=True, check=True).stdout
    return {name: int(value) for name, value in (line.split() for line in out.splitlines())}


def values_of(module: Module) -> dict[str, int]:
    values: dict[str, int] = {}
    for header in module.headers.split():
        for name, value in evaluate(header, macros_of(header, module)).items():
            values.setdefault(name, value)
    return dict(sorted(values.items()))


def text_of(name: str, module: Module) -> str:
    values = values_of(module)
    out = [
        "# Generated by tools/gen_abi.py from the C headers; do not edit.",
        f'"""Constants of {", ".join("<" + h + ">" for h in module.headers.split())}."""',
        "",
        "from typing import Final",
        "",
    ]
    if name == "sysno":
        values = {k.removeprefix("__NR_"): v for k, v in sorted(values.items(), key=lambda kv: kv[1])}
    for key, value in values.items():
        shown = str(value) if value < 1000 or name in ("errno", "sysno") else hex(value)
        out.append(f"{key}: Final = {shown}")
    if name == "errno":
        first: dict[int, str] = {}
        for key, value in values.items():
            if key not in ("EWOULDBLOCK", "EDEADLOCK", "ENOTSUP"):
                first.setdefault(value, key)
        out += ["", "NAMES: Final[dict[int, str]] = {"]
        out += [f'    {v}: "{k}",' for v, k in sorted(first.items())] + ["}"]
    return "\n".join(out) + "\n"


def main() -> int:
    check = "--check" in sys.argv[1:]
    ABI.mkdir(parents=True, exist_ok=True)
    stale = []
    for name, module in MODULES.items():
        path = ABI / f"{name}.py"
        text = text_of(name, module)
        if not path.exists() or path.read_text() != text:
            stale.append(name)
            if not check:
                path.write_text(text)
    if check and stale:
        print(f"sentry/abi is not what the C compiler says: {' '.join(stale)}; run python tools/gen_abi.py")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
