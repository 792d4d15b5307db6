/*
 * Random calls against a simple model: what a page-by-page address space would hold. Contents,
 * protections and faults are compared, through the guest's own mappings and through the sentry's
 * copies. test_mm_random [steps [seed]]
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "../mm/memfile.h"
#include "mm_fake.h"

#define PAGES     1024      /* of the arena that are played with */
#define LOWEST    0x10000UL /* vm.mmap_min_addr */
#define OBJ_PAGES 200
#define PROCS     4
#define WORDS     3

static const u64 word_at[WORDS] = {0, 2040, 4088};

struct mpage {
    int mapped, prot, shared, own; /* own: has a private copy */
    int obj;                       /* -1 anonymous */
    u32 index;                     /* page of the object */
    u64 w[WORDS];
};

/* Objects: 0-1 MEM and written to, only mapped shared; 2 MEM, 3 HOST constant, mapped privately; 4
 * HOST mapped shared; from 5 on: shared anonymous memory, made on the fly. */
#define MAX_OBJ 4000
struct mobject {
    struct cn_mobj *o;
    u64 size;
    u64 (*w)[WORDS];
    u32 npages;
};

static struct mobject objs[MAX_OBJ];
static int nobjs;
static struct mpage model[PROCS][PAGES];
static struct cn_mm *mms[PROCS];
static u64 rng_state, step, last_value;

static u64 rnd(u64 n)
{
    rng_state ^= rng_state << 13;
    rng_state ^= rng_state >> 7;
    rng_state ^= rng_state << 17;
    return (rng_state >> 11) % n;
}

static u64 addr_of(u64 page)
{
    return ARENA + page * CN_PAGE_SIZE;
}

/* What an access must give: 0, -EFAULT, -EACCES or -ENXIO, and the words. */
static int expect(struct mpage *p, int write, u64 *w)
{
    memset(w, 0, WORDS * sizeof(*w));
    if (!p->mapped)
        return -EFAULT;
    if (p->prot == PROT_NONE || (write && !(p->prot & PROT_WRITE)))
        return -EACCES;
    if (p->own) {
        memcpy(w, p->w, sizeof(p->w));
        return 0;
    }
    if (p->obj < 0)
        return 0;
    struct mobject *o = &objs[p->obj];
    if ((u64)p->index * CN_PAGE_SIZE >= ((o->size + CN_PAGE_SIZE - 1) & CN_PAGE_MASK))
        return -ENXIO;
    if (p->index < o->npages)
        memcpy(w, o->w[p->index], sizeof(p->w));
    return 0;
}

static void model_write(struct mpage *p, int word, u64 value)
{
    u64 w[WORDS];
    if (expect(p, 1, w) < 0)
        return;
    if (p->shared) {
        objs[p->obj].w[p->index][word] = value;
        return;
    }
    if (!p->own)
        memcpy(p->w, w, sizeof(w));
    p->own = 1;
    p->w[word] = value;
}

static void check_page(int proc, u64 page)
{
    u64 want[WORDS], got;
    int rc = expect(&model[proc][page], 0, want);

    for (int i = 0; i < WORDS; i++) {
        u64 at = addr_of(page) + word_at[i];
        int via_guest = rnd(2) != 0, r;
        r = via_guest ? guest_read(mms[proc], at, &got, 8) : cn_mm_copy_in(mms[proc], at, &got, 8);
        int want_rc = via_guest || !rc ? rc : -EFAULT;
        if (r != want_rc || (!r && got != want[i])) {
            fprintf(stderr,
                    "step %lu proc %d page %lu word %d %s: rc %d want %d, %lx want %lx (own %d obj "
                    "%d)\n",
                    step, proc, page, i, via_guest ? "guest" : "copy", r, want_rc, got, want[i],
                    model[proc][page].own, model[proc][page].obj);
            abort();
        }
    }
}

static void check_all(int proc)
{
    struct cn_vma_info *v = calloc(PAGES + 16, sizeof(*v));
    int n = cn_mm_vmas(mms[proc], v, PAGES + 16), k = 0;
    struct cn_mm_stats st;
    u64 total = ARENA_END - addr_of(PAGES) + ARENA - LOWEST;

    CHECK(n <= PAGES);
    for (u64 i = 0; i < PAGES; i++) {
        struct mpage *p = &model[proc][i];
        while (k < n && v[k].end <= addr_of(i))
            k++;
        int mapped = k < n && v[k].start <= addr_of(i);
        CHECK(mapped == p->mapped);
        if (mapped)
            CHECK((int)v[k].prot == p->prot && ((v[k].flags & CN_VMA_SHARED) != 0) == p->shared);
        total += p->mapped ? CN_PAGE_SIZE : 0;
        check_page(proc, i);
    }
    cn_mm_get_stats(mms[proc], &st);
    CHECK(st.total == total);
    free(v);
}

static int random_prot(void)
{
    static const int prots[] = {PROT_READ | PROT_WRITE,
                                PROT_READ | PROT_WRITE,
                                PROT_READ,
                                PROT_NONE,
                                PROT_READ | PROT_EXEC,
                                PROT_READ | PROT_WRITE | PROT_EXEC};
    return prots[rnd(6)];
}

static int new_object(struct cn_mobj *o, u32 npages)
{
    CHECK(nobjs < MAX_OBJ);
    objs[nobjs] = (struct mobject){o, (u64)npages * CN_PAGE_SIZE,
                                   calloc(npages, sizeof(objs[0].w[0])), npages};
    return nobjs++;
}

static void do_mmap(int proc)
{
    u64 n = 1 + rnd(rnd(4) ? 20 : 150), at = rnd(PAGES - n), off = 0;
    int obj = -1, shared = 0, fixed = rnd(3) != 0, prot = random_prot(), flags = 0;
    i64 got;

    if (rnd(2)) {
        obj = (int)rnd(5);
        shared = obj != 2 && obj != 3;
        off = rnd(OBJ_PAGES + 10);
    } else if (rnd(4) == 0 && nobjs < MAX_OBJ - 1) {
        shared = 1;
        obj = -2;
    }
    flags = (shared ? MAP_SHARED : MAP_PRIVATE) | (obj < 0 ? MAP_ANONYMOUS : 0) |
            (fixed ? MAP_FIXED : 0) | (rnd(8) ? 0 : MAP_POPULATE);
    if (fixed && rnd(4) == 0)
        flags = (flags & ~MAP_FIXED) | MAP_FIXED_NOREPLACE;
    int busy = 0;
    for (u64 i = 0; i < n; i++)
        busy |= model[proc][at + i].mapped;
    got = cn_mm_mmap(mms[proc], rnd(4) || fixed ? addr_of(at) : 0, n * CN_PAGE_SIZE - rnd(4096),
                     (u32)prot, 7, (u32)flags, 0, obj >= 0 ? objs[obj].o : NULL, off * CN_PAGE_SIZE,
                     0);
    if (flags & MAP_FIXED_NOREPLACE && busy) {
        CHECK(got == -EEXIST);
        return;
    }
    if (got < 0 && !fixed)
        CHECK(got == -ENOMEM);
    if (got < 0 && !fixed)
        return;
    CHECK(got >= (i64)ARENA);
    u64 page = ((u64)got - ARENA) / CN_PAGE_SIZE;
    if (fixed)
        CHECK(page == at);
    CHECK(page + n <= PAGES);
    if (obj == -2)
        obj = new_object(NULL, (u32)n);
    for (u64 i = 0; i < n; i++) {
        struct mpage *p = &model[proc][page + i];
        CHECK(fixed || !p->mapped);
        *p = (struct mpage){
            .mapped = 1, .prot = prot, .shared = shared, .obj = obj, .index = (u32)(off + i)};
    }
}

static void do_munmap(int proc)
{
    u64 n = 1 + rnd(60), at = rnd(PAGES - n);
    CHECK(cn_mm_munmap(mms[proc], addr_of(at), n * CN_PAGE_SIZE) == 0);
    memset(&model[proc][at], 0, n * sizeof(struct mpage));
}

static void do_mprotect(int proc)
{
    u64 n = 1 + rnd(60), at = rnd(PAGES - n), i;
    int prot = random_prot(),
        rc = cn_mm_mprotect(mms[proc], addr_of(at), n * CN_PAGE_SIZE, (u32)prot);
    for (i = 0; i < n && model[proc][at + i].mapped; i++)
        model[proc][at + i].prot = prot;
    CHECK(rc == (i == n ? 0 : -ENOMEM));
}

/* May pages at..at+n be parts of one VMA? (The other way round is not for the model to know.) */
static int same_kind(struct mpage *a, struct mpage *b)
{
    return a->mapped && b->mapped && a->prot == b->prot && a->shared == b->shared &&
           a->obj == b->obj && (a->obj < 0 || b->index == a->index + 1);
}

static void do_mremap(int proc)
{
    u64 at = rnd(PAGES - 100), n = 1, most = 1 + rnd(40), nn, to = rnd(PAGES - 100);
    int flags = rnd(4) ? MREMAP_MAYMOVE : 0;
    static struct mpage moved[PAGES];

    if (!model[proc][at].mapped)
        return;
    while (n < most && same_kind(&model[proc][at + n - 1], &model[proc][at + n]))
        n++;
    nn = 1 + rnd(rnd(2) ? 20 : 99);
    if (rnd(3) == 0)
        flags = MREMAP_MAYMOVE | MREMAP_FIXED;
    if (rnd(6) == 0) {
        flags = MREMAP_MAYMOVE | 4; /* DONTUNMAP */
        nn = n;
    }
    i64 got = cn_mm_mremap(mms[proc], addr_of(at), n * CN_PAGE_SIZE, nn * CN_PAGE_SIZE, (u32)flags,
                           addr_of(to));
    if (flags & MREMAP_FIXED && to < at + n && at < to + nn) {
        CHECK(got == -EINVAL);
        return;
    }
    if (got < 0) {
        CHECK(got == -ENOMEM || (got == -EFAULT && n > 1));
        if (flags & MREMAP_FIXED &&
            got == -EFAULT) /* as in Linux, what was at the target is gone, and maybe the tail */
            CHECK(0);
        return;
    }
    u64 page = ((u64)got - ARENA) / CN_PAGE_SIZE;
    for (u64 i = 0; i < nn; i++) {
        if (i < n) {
            moved[i] = model[proc][at + i];
        } else {
            moved[i] = moved[i - 1];
            moved[i].own = 0;
            moved[i].index++;
            memset(moved[i].w, 0, sizeof(moved[i].w));
        }
    }
    for (u64 i = 0; i < n; i++) {
        if (flags & 4 && page != at)
            model[proc][at + i].own = 0;
        else
            memset(&model[proc][at + i], 0, sizeof(struct mpage));
    }
    for (u64 i = 0; i < nn; i++) {
        CHECK(flags & MREMAP_FIXED || !model[proc][page + i].mapped);
        model[proc][page + i] = moved[i];
    }
}

static void do_advise(int proc)
{
    u64 n = 1 + rnd(40), at = rnd(PAGES - n);
    int hole = 0, rc = cn_mm_madvise(mms[proc], addr_of(at), n * CN_PAGE_SIZE, MADV_DONTNEED);
    for (u64 i = 0; i < n; i++) {
        hole |= !model[proc][at + i].mapped;
        if (!model[proc][at + i].shared)
            model[proc][at + i].own = 0;
    }
    CHECK(rc == (hole ? -ENOMEM : 0));
}

static void do_write(int proc)
{
    for (int k = 0; k < 8; k++) {
        u64 page = rnd(PAGES), value = ++last_value, w[WORDS];
        int word = (int)rnd(WORDS), via = (int)rnd(3), rc, want;
        u64 at = addr_of(page) + word_at[word];
        if (!model[proc][page].mapped && rnd(4))
            continue;
        want = expect(&model[proc][page], 1, w);
        rc = via ? guest_write(mms[proc], at, &value, 8) : cn_mm_copy_out(mms[proc], at, &value, 8);
        if (fake_guess && via && want == -EACCES && rc == -ENXIO)
            continue; /* beyond the end, and taken for a read */
        if (rc != (via || !want ? want : -EFAULT)) {
            fprintf(stderr, "step %lu write proc %d page %lu via %d: rc %d want %d\n", step, proc,
                    page, via, rc, want);
            abort();
        }
        if (!want)
            model_write(&model[proc][page], word, value);
    }
}

/* Long copies over many pages: through iovecs pinned for a host file, and back. */
static void do_io(int proc)
{
    static u8 buf[64 * CN_PAGE_SIZE], back[64 * CN_PAGE_SIZE];
    static int fd;
    u64 n = 1 + rnd(60), at = rnd(PAGES - n), good = 0, w[WORDS];
    int write = rnd(2) != 0;

    if (!fd)
        fd = memfd_create("io", 0);
    while (good < n && expect(&model[proc][at + good], write, w) == 0)
        good++;
    for (u64 i = 0; i < n; i++)
        for (int k = 0; k < WORDS; k++) {
            u64 value = ++last_value;
            memcpy(buf + i * CN_PAGE_SIZE + word_at[k], &value, 8);
        }
    if (write) { /* file to guest */
        CHECK(pwrite(fd, buf, n * CN_PAGE_SIZE, 0) == (ssize_t)(n * CN_PAGE_SIZE));
        i64 rc = cn_mm_host_read(mms[proc], fd, addr_of(at), n * CN_PAGE_SIZE, 0);
        CHECK(rc == (good ? (i64)(good * CN_PAGE_SIZE) : -EFAULT));
        for (u64 i = 0; i < good; i++)
            for (int k = 0; k < WORDS; k++) {
                u64 value;
                memcpy(&value, buf + i * CN_PAGE_SIZE + word_at[k], 8);
                model_write(&model[proc][at + i], k, value);
            }
        return;
    }
    i64 rc = cn_mm_host_write(mms[proc], fd, addr_of(at), n * CN_PAGE_SIZE, 0);
    if (good < n && rc == -EFAULT) /* host file pages beyond the end may take a whole batch down */
        return;
    CHECK(rc == (i64)(good * CN_PAGE_SIZE) ||
          (good < n && rc >= 0 && rc < (i64)(n * CN_PAGE_SIZE)));
    good = (u64)rc / CN_PAGE_SIZE;
    CHECK(pread(fd, back, good * CN_PAGE_SIZE, 0) == (ssize_t)(good * CN_PAGE_SIZE));
    for (u64 i = 0; i < good; i++) {
        expect(&model[proc][at + i], 0, w);
        for (int k = 0; k < WORDS; k++)
            CHECK(memcmp(back + i * CN_PAGE_SIZE + word_at[k], &w[k], 8) == 0);
    }
}

static void do_object(void)
{
    struct mobject *o = &objs[rnd(2)];
    u64 index = rnd(OBJ_PAGES), n = 1 + rnd(20), value;
    int word = (int)rnd(WORDS);

    switch (rnd(5)) {
    case 0:
    case 1:
        value = ++last_value;
        CHECK(cn_mobj_pwrite(o->o, &value, 8, index * CN_PAGE_SIZE + word_at[word]) == 8);
        o->w[index][word] = value;
        if (index * CN_PAGE_SIZE + word_at[word] + 8 > o->size)
            o->size = index * CN_PAGE_SIZE + word_at[word] + 8;
        break;
    case 2:
        n = n > OBJ_PAGES - index ? OBJ_PAGES - index : n;
        CHECK(cn_mobj_punch(o->o, index * CN_PAGE_SIZE, n * CN_PAGE_SIZE) == 0);
        memset(o->w[index], 0, n * sizeof(o->w[0]));
        break;
    case 3:
        CHECK(cn_mobj_truncate(o->o, index * CN_PAGE_SIZE + 100) == 0);
        if (index * CN_PAGE_SIZE + 100 < o->size) {
            for (int k = 1; k < WORDS; k++)
                o->w[index][k] = 0;
            memset(o->w[index + 1], 0, (OBJ_PAGES + 9 - index) * sizeof(o->w[0]));
        }
        o->size = index * CN_PAGE_SIZE + 100;
        break;
    case 4:
        if (index * CN_PAGE_SIZE + word_at[word] + 8 <= o->size) {
            CHECK(cn_mobj_pread(o->o, &value, 8, index * CN_PAGE_SIZE + word_at[word]) == 8);
            CHECK(value == o->w[index][word]);
        }
    }
}

static void do_fork(int proc)
{
    int child = (int)rnd(PROCS);

    if (child == proc)
        return;
    if (mms[child])
        cn_mm_unref(mms[child]);
    CHECK((rnd(2) ? cn_mm_fork(mms[proc], &mms[child])
                  : cn_mm_fork_alone(mms[proc], ARENA + rnd(PAGES) * CN_PAGE_SIZE, &mms[child])) == 0);
    memcpy(model[child], model[proc], sizeof(model[0]));
}

static void set_up(void)
{
    for (int i = 0; i < 5; i++) {
        struct cn_mobj *o;
        if (i < 3) {
            o = cn_mobj_new_mem();
            CHECK(cn_mobj_truncate(o, OBJ_PAGES * CN_PAGE_SIZE) == 0);
        } else {
            int fd = memfd_create("host", 0);
            CHECK(ftruncate(fd, OBJ_PAGES * CN_PAGE_SIZE) == 0);
            o = cn_mobj_new_host(fd);
            close(fd);
        }
        int k = new_object(o, OBJ_PAGES + 10);
        objs[k].size = OBJ_PAGES * CN_PAGE_SIZE;
        for (u32 p = 0; p < OBJ_PAGES; p++)
            for (int w = 0; w < WORDS; w++) {
                if ((p / 16) % 3 == 1)
                    continue; /* holes */
                u64 value = ++last_value;
                CHECK(cn_mobj_pwrite(o, &value, 8, p * CN_PAGE_SIZE + word_at[w]) == 8);
                objs[k].w[p][w] = value;
            }
    }
    CHECK(cn_mm_new(&mms[0]) == 0);
    cn_mm_set_base(mms[0], addr_of(PAGES), ARENA_END - 4096);
}

int main(int argc, char **argv)
{
    u64 steps = argc > 1 ? strtoul(argv[1], NULL, 0) : 20000;
    u64 seed = argc > 2 ? strtoul(argv[2], NULL, 0) : (u64)time(NULL) * 1000003 + (u64)getpid();

    printf("test_mm_random: seed %lu\n", seed);
    fflush(stdout);
    rng_state = seed | 1;
    fake_start();
    set_up();
    /* Nothing outside the pages of the model is ever free, so that placement stays inside. */
    CHECK(cn_mm_mmap(mms[0], addr_of(PAGES), ARENA_END - addr_of(PAGES), PROT_NONE, 7,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, CN_VMA_VDSO, NULL, 0, 77) > 0);
    CHECK(cn_mm_mmap(mms[0], LOWEST, ARENA - LOWEST, PROT_NONE, 7,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, CN_VMA_VDSO, NULL, 0, 78) > 0);
    for (step = 0; step < steps; step++) {
        int proc = (int)rnd(PROCS);
        fake_guess = rnd(2) != 0;
        if (!mms[proc])
            proc = 0;
        switch (rnd(16)) {
        case 0:
        case 1:
        case 2:
            do_mmap(proc);
            break;
        case 3:
            do_munmap(proc);
            break;
        case 4:
        case 5:
            do_mprotect(proc);
            break;
        case 6:
            do_mremap(proc);
            break;
        case 7:
            do_advise(proc);
            break;
        case 8:
            do_object();
            break;
        case 9:
            if (rnd(4) == 0)
                do_fork(proc);
            break;
        case 10:
            do_io(proc);
            break;
        default:
            do_write(proc);
        }
        for (int k = 0; k < 4; k++)
            check_page(proc, rnd(PAGES));
        if (step % 500 == 499)
            for (int p = 0; p < PROCS; p++)
                if (mms[p])
                    check_all(p);
    }
    for (int p = 0; p < PROCS; p++)
        if (mms[p])
            cn_mm_unref(mms[p]);
    for (int i = 0; i < 5; i++)
        cn_mobj_unref(objs[i].o);
    for (int i = 0; i < nobjs; i++)
        free(objs[i].w);
    printf("test_mm_random: ok, %lu host operations in %lu steps, %lu KiB left\n", fake_ops_made,
           steps, cn_memfile_used() / 1024);
    CHECK(cn_memfile_used() < 64 * 4096);
    return 0;
}
