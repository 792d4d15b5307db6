/* The benchmark guest: what a subject file offers to guest.c. */
#ifndef BENCH_GUEST_H
#define BENCH_GUEST_H

/* One thing to measure. setup (may be NULL) prepares outside of the measured time, cleanup undoes it;
 * one does it once. per: operations that one call of `one` stands for. once: long enough to be
 * called once a sample. */
struct bench {
    const char *name;
    void (*one)(void);
    void (*setup)(void);
    void (*cleanup)(void);
    double per;
    int once;
};

extern const struct bench calls[], files[], ipc[], procs[], memory[], numbers[], scale[];

extern const char *data_dir; /* has big, many/ and self's path; read-only */
extern char self_path[4096];
extern volatile long sink; /* keeps results alive */

double now_ns(void);
/* Ends the program with a message when what stands before it failed (negative). Returns it. */
long must(long result, const char *what);

#endif
