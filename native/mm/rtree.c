/* The treap under every table of the memory manager. */
#include "rtree.h"

static u64 mix(u64 x)
{
    x ^= x >> 31;
    x *= 0x7fb5d329728ea185UL;
    x ^= x >> 27;
    x *= 0x81dadef4bc2dd44dUL;
    return x ^ x >> 33;
}

static u64 max_of(const struct rnode *n)
{
    return n ? n->max : 0;
}

static void pull(struct rnode *n)
{
    u64 m = n->val, l = max_of(n->left), r = max_of(n->right);

    m = l > m ? l : m;
    n->max = r > m ? r : m;
}

/* Recomputes the maxima from n up, as far as they change. */
static void pull_up(struct rnode *n)
{
    for (; n; n = n->up) {
        u64 before = n->max;
        pull(n);
        if (n->max == before)
            break;
    }
}

struct rnode *rt_find(const struct rtree *t, u64 at)
{
    struct rnode *n = t->root, *found = NULL;

    while (n) {
        if (n->end > at) {
            found = n;
            if (n->start <= at)
                break;
            n = n->left;
        } else {
            n = n->right;
        }
    }
    return found;
}

static struct rnode *leftmost(struct rnode *n)
{
    while (n && n->left)
        n = n->left;
    return n;
}

static struct rnode *rightmost(struct rnode *n)
{
    while (n && n->right)
        n = n->right;
    return n;
}

struct rnode *rt_first(const struct rtree *t)
{
    return leftmost(t->root);
}

struct rnode *rt_last(const struct rtree *t)
{
    return rightmost(t->root);
}

struct rnode *rt_next(const struct rnode *n)
{
    if (n->right)
        return leftmost(n->right);
    while (n->up && n->up->right == n)
        n = n->up;
    return n->up;
}

struct rnode *rt_prev(const struct rnode *n)
{
    if (n->left)
        return rightmost(n->left);
    while (n->up && n->up->left == n)
        n = n->up;
    return n->up;
}

/* Puts c where n hangs. */
static void hang(struct rtree *t, struct rnode *n, struct rnode *c)
{
    if (!n->up)
        t->root = c;
    else if (n->up->left == n)
        n->up->left = c;
    else
        n->up->right = c;
    if (c)
        c->up = n->up;
}

/* c, a child of n, and n change places. The maximum of c is n's; n's is recomputed. */
static void rotate(struct rtree *t, struct rnode *n, struct rnode *c)
{
    hang(t, n, c);
    if (n->left == c) {
        n->left = c->right;
        if (c->right)
            c->right->up = n;
        c->right = n;
    } else {
        n->right = c->left;
        if (c->left)
            c->left->up = n;
        c->left = n;
    }
    n->up = c;
    pull(n);
    pull(c);
}

void rt_insert(struct rtree *t, struct rnode *n)
{
    struct rnode **link = &t->root, *up = NULL;

    while (*link) {
        up = *link;
        link = n->start < up->start ? &up->left : &up->right;
    }
    n->left = n->right = NULL;
    n->up = up;
    n->max = n->val;
    n->prio = mix((u64)n ^ mix(n->start));
    *link = n;
    t->count++;
    pull_up(up);
    while (n->up && n->up->prio < n->prio)
        rotate(t, n->up, n);
}

void rt_erase(struct rtree *t, struct rnode *n)
{
    while (n->left && n->right)
        rotate(t, n, n->left->prio > n->right->prio ? n->left : n->right);
    hang(t, n, n->left ? n->left : n->right);
    t->count--;
    pull_up(n->up);
}

void rt_set_val(struct rnode *n, u64 val)
{
    if (n->val == val)
        return;
    n->val = val;
    pull_up(n);
}

struct rnode *rt_lowest(const struct rtree *t, u64 need)
{
    struct rnode *n = t->root;

    if (max_of(n) < need)
        return NULL;
    for (;;) {
        if (n->left && n->left->max >= need)
            n = n->left;
        else if (n->val >= need)
            return n;
        else
            n = n->right;
    }
}

static struct rnode *highest(struct rnode *n, u64 need)
{
    for (;;) {
        if (n->right && n->right->max >= need)
            n = n->right;
        else if (n->val >= need)
            return n;
        else
            n = n->left;
    }
}

struct rnode *rt_before(const struct rnode *n, u64 need)
{
    for (;;) {
        if (n->left && n->left->max >= need)
            return highest(n->left, need);
        while (n->up && n->up->left == n)
            n = n->up;
        n = n->up;
        if (!n || n->val >= need)
            return (struct rnode *)n;
    }
}
