/* Patched call sites. See patch.h. */
#include "patch.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "guard.h"
#include "mm_internal.h"
#include "sites.h"

#define SLOT (SITE_MOVES + 22) /* bytes of a trampoline */
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

/* The VMA of a page with sites that may be patched: a program's own text, nothing the guest writes
 * to. */
static struct vma *text_at(struct cn_mm *mm, u64 page)
{
    struct vma *v = vma_at(mm, page);

    return v && v->prot & PROT_EXEC && !(v->prot & PROT_WRITE) && !is_shared(v) ? v : NULL;
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
        if (r->used + SLOT <= REGION && (at > site ? at - site : site - at) < NEAR + REGION) {
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

/* The replaced instructions; lea (return address), %r11; jmp *(entry). */
static int write_trampoline(struct cn_mm *mm, u64 at, const u8 *insn, u32 len, u64 back, u64 entry)
{
    static const u8 lea[] = {0x4c, 0x8d, 0x1d}, jmp[] = {0xff, 0x25, 0, 0, 0, 0};
    u8 code[SLOT] = {0};
    i32 rel = (i32)(back - (at + len + 7));

    memcpy(code, insn, len);
    memcpy(code + len, lea, 3);
    memcpy(code + len + 3, &rel, 4);
    memcpy(code + len + 7, jmp, 6);
    memcpy(code + len + 13, &entry, 8);
    return cn_mm_force_out(mm, at, code, sizeof(code));
}

/* Copies a page of text. mm->lock held. */
static int read_page(struct cn_mm *mm, u64 start, u8 *page)
{
    struct piece from;
    u64 done = 0;
    int rc = 0;

    while (done < CN_PAGE_SIZE && !rc) {
        rc = piece_get(mm, start + done, CN_PAGE_SIZE - done, 0, 1, &from);
        if (!rc)
            rc = guard_copy(page + done, from.ptr, from.n) ? -EFAULT : 0;
        done += from.n;
    }
    return rc;
}

/* Replaces the page of the site by a copy with the jump in it. */
static int write_jump(struct cn_mm *mm, u64 rip, u64 nr, const struct site *s, u64 to)
{
    u8 page[CN_PAGE_SIZE];
    u64 start = page_down(rip);
    i32 rel = (i32)(to - (start + s->jump + SITE_JUMP));
    struct site now;
    struct vma *v;
    int rc = -EAGAIN;

    pthread_mutex_lock(&mm->lock);
    v = text_at(mm, start);
    if (v)
        rc = read_page(mm, start, page);
    if (!rc && (!site_find(page, (u32)(rip - start), nr, &now) || now.jump != s->jump))
        rc = -EAGAIN; /* it has changed meanwhile */
    if (!rc) {
        page[s->jump] = 0xe9;
        memcpy(page + s->jump + 1, &rel, 4);
        if (s->jump != s->at) {
            page[s->at] = 0xeb;
            page[s->at + 1] = (u8)(s->jump - s->at - 2);
        }
        rc = private_copy(mm, v, start, start + CN_PAGE_SIZE, page);
    }
    limbo_trim(mm);
    pthread_mutex_unlock(&mm->lock);
    return rc;
}

int cn_mm_patch_site(struct cn_mm *mm, u64 rip, u64 nr, u64 entry)
{
    u64 start = page_down(rip), slot;
    u8 page[CN_PAGE_SIZE];
    struct site s;
    int rc;

    if (start < MIN_ADDR || rip >= cn_ops->task_size ||
        cn_mm_force_in(mm, start, page, CN_PAGE_SIZE) < 0 ||
        !site_find(page, (u32)(rip - start), nr, &s))
        return 0;
    pthread_mutex_lock(&mm->lock);
    rc = text_at(mm, start) != NULL;
    pthread_mutex_unlock(&mm->lock);
    if (!rc || !(slot = take_slot(mm, start)))
        return 0;
    rc = write_trampoline(mm, slot, page + s.at, s.len, rip, entry);
    if (!rc)
        rc = write_jump(mm, rip, nr, &s, slot);
    return rc < 0 ? rc : 1;
}
