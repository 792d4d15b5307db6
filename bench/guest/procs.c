/* Threads, processes and signals. */
#define _GNU_SOURCE
#include "guest.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static void *nothing(void *unused) { return unused; }

static void thread_create(void)
{
    pthread_t t;

    must(-pthread_create(&t, NULL, nothing, NULL), "thread");
    pthread_join(t, NULL);
}

static void reap(pid_t p)
{
    int status;

    must(waitpid(p, &status, 0), "wait");
    if (status)
        exit(4);
}

static void fork_wait(void)
{
    pid_t p = (pid_t)must(fork(), "fork");

    if (p == 0)
        _exit(0);
    reap(p);
}

static void exec_wait(void)
{
    pid_t p = (pid_t)must(fork(), "fork");

    if (p == 0) {
        execl("/bin/true", "true", (char *)NULL);
        _exit(1);
    }
    reap(p);
}

static void handler(int sig) { sink = sig; }
static void catch_usr1(void) { signal(SIGUSR1, handler); }
static void signal_self(void) { raise(SIGUSR1); }

static sigjmp_buf back;
static char *forbidden;

static void escape(int sig) { siglongjmp(back, sig); }

static void catch_segv(void)
{
    struct sigaction sa = {.sa_handler = escape, .sa_flags = SA_NODEFER};

    forbidden = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    must(forbidden == MAP_FAILED ? -1 : 0, "mmap");
    sigaction(SIGSEGV, &sa, NULL);
}

/* The mask is left alone (SA_NODEFER, savemask 0), so this is the signal and nothing else. */
static void segv_caught(void)
{
    if (sigsetjmp(back, 0) == 0)
        *(volatile char *)forbidden = 1;
}

static void default_segv(void)
{
    signal(SIGSEGV, SIG_DFL);
    munmap(forbidden, 4096);
}

const struct bench procs[] = {
    {"thread_create", thread_create, 0, 0, 1, 0},
    {"fork_wait", fork_wait, 0, 0, 1, 0},
    {"exec_wait", exec_wait, 0, 0, 1, 0},
    {"segv_caught", segv_caught, catch_segv, default_segv, 1, 0},
    {"signal_self", signal_self, catch_usr1, 0, 1, 0},
    {0},
};
