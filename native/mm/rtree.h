/*
 * Sets of disjoint ranges, ordered by start, in a balanced tree (a treap). Each node carries a
 * value of its owner's, and the tree the greatest value of every subtree, so that "the nearest
 * range whose value is at least x" is logarithmic: free extents by length, address space gaps by
 * size. Nodes are embedded in their owners' structures, first.
 */
#ifndef CORDON_RTREE_H
#define CORDON_RTREE_H

#include "../cordon.h"

struct rnode {
    struct rnode *left, *right, *up;
    u64 start, end; /* [start, end), in the owner's unit */
    u64 val, max;
    u64 prio;
};

struct rtree {
    struct rnode *root;
    u64 count;
};

/* The first range that ends after at: the one that holds it, or the next one. NULL when there is
 * none. */
struct rnode *rt_find(const struct rtree *t, u64 at);
struct rnode *rt_first(const struct rtree *t);
struct rnode *rt_last(const struct rtree *t);
struct rnode *rt_next(const struct rnode *n);
struct rnode *rt_prev(const struct rnode *n);
/* start, end and val are set; the range overlaps none of the tree's. */
void rt_insert(struct rtree *t, struct rnode *n);
void rt_erase(struct rtree *t, struct rnode *n);
void rt_set_val(struct rnode *n, u64 val);
/* The first range whose value is at least need. */
struct rnode *rt_lowest(const struct rtree *t, u64 need);
/* The last range before n (n itself excluded) whose value is at least need. */
struct rnode *rt_before(const struct rnode *n, u64 need);

#endif
