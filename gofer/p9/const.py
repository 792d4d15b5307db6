"""Numbers of 9P2000.L (diod's protocol.md, Linux net/9p and fs/9p) and of our extension.

The extension "9P2000.L.cordon1" is agreed on in the version string; a server that doesn't know it answers "9P2000.L". All of
9P2000.L stays valid beside it. `attr` is the 153 bytes of Rgetattr's body (its gen field holds the device number of the
host file system, so that path and gen together are an identity). Answers with a descriptor carry it as SCM_RIGHTS on their first byte
and say so in hasfd[1].

    Twalkattr   fid[4] open[4] n[2] n*(name[s]) n*(newfid[4])
    Rwalkattr   status[4] n[2] n*(attr) target[s] hasfd[1]
                Walks as far as it goes: each component found has a fid and attributes. status is 0 or the errno of the first that was
                not found. A walk ends after a symbolic link, whose target comes along. Never fails once fid is right. open: O_RDONLY,
                O_WRONLY or O_RDWR to have a descriptor if all were found and the last is a regular file, NO_OPEN for none.
                n = 0 refreshes: the attributes of fid itself, as one component, and no new fid (the list of newfids is empty).
    Tlopenfd    fid[4] open[4]
    Rlopenfd    attr hasfd[1]                   a descriptor of a regular file; the fid stays as it is
    Tmake       dfid[4] newfid[4] name[s] mode[4] rdev[8] uid[4] gid[4] target[s]
    Rmake       attr hasfd[1]                   makes what mode's type says, exclusively; a regular file is also opened O_RDWR
    Treaddirattr fid[4] offset[8] count[4]
    Rreaddirattr eof[1] count[4] count*u8       entries: attr offset[8] type[1] name[s], without "." and ".."; the fid needs no opening
    Tlistat     dfid[4] newfid[4] name[s] count[4] [n[2] n*(name[s])]
    Rlistat     attr eof[1] count[4] count*u8 [blocks]
                A directory found and its first entries. With LIST_AHEAD in count the names of more directories in dfid follow, and
                after the answer, if it is the whole directory, listings of what is below it and of those, as far as they fit:
                blocks parent[2] ino[8] dev[8] name[s] size[4] size*u8, see cn_gf_ahead. None of these has a fid.
    Tclunkn     n[2] n*(fid[4])                 no answer
    Tsetattrx   as Tsetattr
    Rsetattrx   attr
    Trenamex    olddfid[4] oldname[s] newdfid[4] newname[s] flags[4]     RENAME_* of renameat2(2)
    Rrenamex
    Tgetxattr   fid[4] name[s]                  name "": the names, each ended by NUL
    Rgetxattr   size[4] size*u8
    Tsetxattr   fid[4] name[s] flags[4] size[4] size*u8
    Rsetxattr
    Trmxattr    fid[4] name[s]
    Rrmxattr
"""

from __future__ import annotations

from typing import Final

VERSION_L: Final = b"9P2000.L"
VERSION_CORDON: Final = b"9P2000.L.cordon1"
NOTAG: Final = 0xFFFF
NOFID: Final = 0xFFFFFFFF
NONUNAME: Final = 0xFFFFFFFF
NO_OPEN: Final = 0xFFFFFFFF

HEADER: Final = 7  # size[4] type[1] tag[2]
IOHDR: Final = 24  # room for the header of a message that carries data
MSIZE: Final = 256 * 1024
LIST_DIRS: Final = 1 << 31  # in the count of Treaddirattr and Tlistat: attributes of directories alone
LIST_AHEAD: Final = 1 << 30  # in that of Tlistat: more directories (with LIST_DIRS)
BESIDE: Final = 0xFFFF  # CN_GF_BESIDE
MIN_MSIZE: Final = 4096
ATTR: Final = 153
QID: Final = 13
MAX_WALK: Final = 16  # MAXWELEM of Twalk
MAX_WALKATTR: Final = 64
MAX_NAME: Final = 255
MAX_TARGET: Final = 4095

TLERROR: Final = 6
RLERROR: Final = 7
TSTATFS: Final = 8
TLOPEN: Final = 12
TLCREATE: Final = 14
TSYMLINK: Final = 16
TMKNOD: Final = 18
TRENAME: Final = 20
TREADLINK: Final = 22
TGETATTR: Final = 24
TSETATTR: Final = 26
TXATTRWALK: Final = 30
TXATTRCREATE: Final = 32
TREADDIR: Final = 40
TFSYNC: Final = 50
TLOCK: Final = 52
TGETLOCK: Final = 54
TLINK: Final = 70
TMKDIR: Final = 72
TRENAMEAT: Final = 74
TUNLINKAT: Final = 76
TVERSION: Final = 100
TAUTH: Final = 102
TATTACH: Final = 104
TFLUSH: Final = 108
TWALK: Final = 110
TREAD: Final = 116
TWRITE: Final = 118
TCLUNK: Final = 120
TREMOVE: Final = 122

TWALKATTR: Final = 160
TLOPENFD: Final = 162
TMAKE: Final = 164
TREADDIRATTR: Final = 166
TCLUNKN: Final = 168
TSETATTRX: Final = 170
TRENAMEX: Final = 172
TGETXATTR: Final = 174
TSETXATTR: Final = 176
TRMXATTR: Final = 178
TLISTAT: Final = 180

QTDIR: Final = 0x80
QTSYMLINK: Final = 0x02
QTFILE: Final = 0x00

GETATTR_ALL: Final = 0x3FFF
GETATTR_BASIC: Final = 0x7FF

SETATTR_MODE: Final = 0x1
SETATTR_UID: Final = 0x2
SETATTR_GID: Final = 0x4
SETATTR_SIZE: Final = 0x8
SETATTR_ATIME: Final = 0x10
SETATTR_MTIME: Final = 0x20
SETATTR_CTIME: Final = 0x40
SETATTR_ATIME_SET: Final = 0x80
SETATTR_MTIME_SET: Final = 0x100

# Open flags and unlinkat flags of 9P2000.L have Linux' values.
L_ACCMODE: Final = 3
L_TRUNC: Final = 0o1000
L_APPEND: Final = 0o2000
L_EXCL: Final = 0o200
L_DIRECTORY: Final = 0o200000
AT_REMOVEDIR: Final = 0x200
