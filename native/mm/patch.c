/* Patched call sites. See patch.h. */
#include "patch.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "guard.h"
#include "mm_internal.h"

#define JUMP 5         /* bytes of the jump */
#define CALL 2         /* ... of the system call */
#define INSN_MAX 7     /* ... of the instruction that is replaced, at most */
#define SLOT 32        /* of a trampoline */
#define REGION (4 * CN_PAGE_SIZE)
#define NEAR (1UL << 30) /* regions lie within this of what they serve: a jump reaches 2 GiB */

static int enabled = 1;

void cn_patch_enable(int on)
{
    enabled = on;
}

int cn_patch_enabled(void)
{
    return enabled;
}

/* Bytes of the instruction before the system call at `call` that a jump can replace; 0: none. */
static u32 insn_before(const u8 *call, u64 nr)
{
    static const u8 load_sixth[] = {0x4c, 0x8b, 0x4c, 0x24, 0x08}; /* mov 8(%rsp), %r9 */
    static const u8 mov_rax[] = {0x48, 0xc7, 0xc0};                /* mov $imm, %rax */
    u32 imm;

    if (call[0] != 0x0f || call[1] != 0x05)
        return 0;
    memcpy(&imm, call - 4, 4);
    if ((call[-5] == 0xb8 && imm == nr) || !memcmp(call - 5, load_sixth, 5))
        return 5;
    return !memcmp(call - 7, mov_rax, 3) && imm == nr ? 7 : 0;
}

/* The VMA of a site that may be patched: a program's own text, nothing the guest writes to. */
static struct vma *text_at(struct cn_mm *mm, u64 site, u32 insn)
{
    struct vma *v = vma_at(mm, site);

    return v && v->prot & PROT_EXEC && !(v->prot & PROT_WRITE) && !is_shared(v) &&
                   site + insn + CALL <= v->n.end &&
                   page_down(site) == page_down(site + insn + CALL - 1)
               ? v
               : NULL;
}

/* A new region near the site: 0 when there is no room. */
static u64 new_region(struct cn_mm *mm, u64 site)
{
    u64 low, high, addr;
    i64 rc;

    site = page_down(site);
    pthread_mutex_lock(&mm->lock);
    if (site > mm->brk) { /* a library: above it, out of the way of what grows down */
        low = site;
        high = min64(site + NEAR, cn_ops->task_size);
    } else { /* the program: below it, out of the way of the heap */
        low = max64(site > NEAR ? site - NEAR : 0, MIN_ADDR);
        high = site;
    }
    addr = vma_gap(mm, REGION, low, high);
    pthread_mutex_unlock(&mm->lock);
    if (!addr)
        return 0;
    rc = cn_mm_mmap(mm, addr, REGION, PROT_READ | PROT_EXEC, PROT_READ | PROT_WRITE | PROT_EXEC,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, CN_VMA_DONTDUMP, NULL, 0, 0);
    return rc == (i64)addr ? addr : 0;
}

/* Where the next trampoline for the site goes, 0 for nowhere. */
static u64 take_slot(struct cn_mm *mm, u64 site)
{
    struct trampolines *r;

    for (r = mm->trampolines; r < mm->trampolines + mm->nregions; r++) {
        u64 at = r->addr + r->used;
        if (r->used < REGION && (at > site ? at - site : site - at) < NEAR + REGION) {
            r->used += SLOT;
            return at;
        }
    }
    if (mm->nregions == TRAMPOLINE_REGIONS)
        return 0;
    r = &mm->trampolines[mm->nregions];
    r->addr = new_region(mm, site);
    if (!r->addr)
        return 0;
    mm->nregions++;
    r->used = SLOT;
    return r->addr;
}

/* The replaced instruction; lea (return address), %rcx; jmp *(entry). */
static int write_trampoline(struct cn_mm *mm, u64 at, const u8 *insn, u32 n, u64 back, u64 entry)
{
    u8 code[SLOT] = {0};
    i32 rel = (i32)(back - (at + n + 7));
    static const u8 lea[] = {0x48, 0x8d, 0x0d}, jmp[] = {0xff, 0x25, 0, 0, 0, 0};

    memcpy(code, insn, n);
    memcpy(code + n, lea, 3);
    memcpy(code + n + 3, &rel, 4);
    memcpy(code + n + 7, jmp, 6);
    memcpy(code + n + 13, &entry, 8);
    return cn_mm_force_out(mm, at, code, sizeof(code));
}

/* Replaces the page of the site by a copy with the jump in it. */
static int write_jump(struct cn_mm *mm, u64 site, u32 insn, u64 nr, u64 to)
{
    u8 page[CN_PAGE_SIZE];
    u64 start = page_down(site), done = 0;
    i32 rel = (i32)(to - (site + JUMP));
    struct piece from;
    struct vma *v;
    int rc = 0;

    pthread_mutex_lock(&mm->lock);
    v = text_at(mm, site, insn);
    while (v && done < CN_PAGE_SIZE && !rc) {
        rc = piece_get(mm, start + done, CN_PAGE_SIZE - done, 0, 1, &from);
        if (!rc)
            rc = guard_copy(page + done, from.ptr, from.n) ? -EFAULT : 0;
        done += from.n;
    }
    if (!v || (!rc && insn_before(page + (site - start) + insn, nr) != insn))
        rc = -EAGAIN; /* it has changed meanwhile */
    if (!rc) {
        page[site - start] = 0xe9;
        memcpy(page + (site - start) + 1, &rel, 4);
        rc = private_copy(mm, v, start, start + CN_PAGE_SIZE, page);
    }
    limbo_trim(mm);
    pthread_mutex_unlock(&mm->lock);
    return rc;
}

int cn_mm_patch_site(struct cn_mm *mm, u64 rip, u64 nr, u64 entry)
{
    u8 code[INSN_MAX + CALL];
    u64 site, slot;
    u32 insn;
    int rc;

    if (rip < MIN_ADDR + sizeof(code) || rip >= cn_ops->task_size ||
        cn_mm_force_in(mm, rip - sizeof(code), code, sizeof(code)) < 0 ||
        !(insn = insn_before(code + INSN_MAX, nr)))
        return 0;
    site = rip - CALL - insn;
    pthread_mutex_lock(&mm->lock);
    rc = text_at(mm, site, insn) != NULL;
    pthread_mutex_unlock(&mm->lock);
    if (!rc || !(slot = take_slot(mm, site)))
        return 0;
    rc = write_trampoline(mm, slot, code + INSN_MAX - insn, insn, rip, entry);
    if (!rc)
        rc = write_jump(mm, site, insn, nr, slot);
    return rc < 0 ? rc : 1;
}
