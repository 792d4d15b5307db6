/* Two parties that wake one another in turn; one operation is a round trip. */
#define _GNU_SOURCE
#include "guest.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int mine[2], theirs[2]; /* [0] is read, [1] written, by each side */
static pid_t peer;
static pthread_t thread;
static int turn; /* the word waited on: 0 ours, 1 the other's, 2 the end */

static void answer(void)
{
    char c;

    peer = (pid_t)must(fork(), "fork");
    if (peer)
        return;
    while (read(theirs[0], &c, 1) == 1 && write(theirs[1], &c, 1) == 1) {
    }
    _exit(0);
}

static void start_pipes(void)
{
    int there[2], back[2];

    must(pipe(there), "pipe");
    must(pipe(back), "pipe");
    mine[1] = there[1], mine[0] = back[0];
    theirs[0] = there[0], theirs[1] = back[1];
    answer();
}

static void start_sockets(void)
{
    int pair[2];

    must(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), "socketpair");
    mine[0] = mine[1] = pair[0];
    theirs[0] = theirs[1] = pair[1];
    answer();
}

static void end_peer(void)
{
    kill(peer, SIGKILL);
    waitpid(peer, NULL, 0);
    close(mine[0]), close(mine[1]), close(theirs[0]), close(theirs[1]);
}

static void round_trip(void)
{
    char c = 1;

    must(write(mine[1], &c, 1), "write");
    must(read(mine[0], &c, 1), "read");
}

static void pass_turn(int from, int to)
{
    (void)from;
    __atomic_store_n(&turn, to, __ATOMIC_SEQ_CST);
    syscall(SYS_futex, &turn, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static int await_other(int value)
{
    int v;

    while ((v = __atomic_load_n(&turn, __ATOMIC_SEQ_CST)) == value)
        syscall(SYS_futex, &turn, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
    return v;
}

static void *futex_peer(void *unused)
{
    while (await_other(0) == 1)
        pass_turn(1, 0);
    return unused;
}

static void start_thread(void)
{
    turn = 0;
    must(-pthread_create(&thread, NULL, futex_peer, NULL), "thread");
}

static void futex_trip(void)
{
    pass_turn(0, 1);
    await_other(1);
}

static void end_thread(void)
{
    pass_turn(0, 2);
    pthread_join(thread, NULL);
}

static volatile int yielding;

static void *yielder(void *unused)
{
    while (yielding)
        sched_yield();
    return unused;
}

static void start_yielder(void)
{
    yielding = 1;
    must(-pthread_create(&thread, NULL, yielder, NULL), "thread");
}

static void end_yielder(void)
{
    yielding = 0;
    pthread_join(thread, NULL);
}

static void yield(void) { sched_yield(); }

const struct bench ipc[] = {
    {"pipe_pingpong", round_trip, start_pipes, end_peer, 1, 0},
    {"socket_pingpong", round_trip, start_sockets, end_peer, 1, 0},
    {"futex_pingpong", futex_trip, start_thread, end_thread, 1, 0},
    {"yield_switch", yield, start_yielder, end_yielder, 1, 0},
    {0},
};
