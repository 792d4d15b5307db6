/* System V shared memory, semaphores and message queues; POSIX message queues. */
#include "vfs_check.h"
#include <mqueue.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <pthread.h>

static void shm(void)
{
    struct shmid_ds d;
    int id = shmget(0x5173, 10000, IPC_CREAT | IPC_EXCL | 0640);
    CHECK(id >= 0);
    SHOW(shmget(0x5173, 10000, IPC_CREAT | IPC_EXCL | 0640));
    SHOW(shmget(0x5173, 20000, 0) == id);
    SHOW(shmget(0x5173, 10000, 0) == id);
    SHOW(shmget(0x5173, 0, 0) == id);
    SHOW(shmget(0x5174, 10, 0));
    SHOW(shmget(IPC_PRIVATE, 0, 0600));
    SHOW(shmctl(id, IPC_STAT, &d));
    SHOW(d.shm_segsz);
    SHOW(d.shm_nattch);
    SHOW(d.shm_perm.mode);
    SHOW(d.shm_perm.__key);
    CHECK(d.shm_cpid == getpid() && d.shm_lpid == 0 && d.shm_atime == 0 && d.shm_ctime > 0);
    char *a = shmat(id, NULL, 0), *b = shmat(id, NULL, SHM_RDONLY);
    CHECK(a != (void *)-1 && b != (void *)-1 && a != b);
    a[0] = 'x', a[9999] = 'y', a[12000] = 'z';
    SHOW(b[0] == 'x' && b[9999] == 'y' && b[12000] == 'z');
    SHOW(shmat(id, a, 0) == (void *)-1);
    SHOW(shmat(id, a + 5, 0) == (void *)-1);
    SHOW(shmat(id, a + 5, SHM_RND | SHM_REMAP) == a);
    SHOW(shmat(id + 1, NULL, 0) == (void *)-1);
    SHOW(shmctl(id, IPC_STAT, &d));
    SHOW(d.shm_nattch);
    CHECK(d.shm_lpid == getpid() && d.shm_atime > 0);
    pid_t p = fork();
    int st;
    if (!p) {
        shmctl(id, IPC_STAT, &d);
        SHOW(d.shm_nattch);
        a[1] = 'c';
        SHOW(shmdt(b));
        *b = 1;
        _exit(1);
    }
    waitpid(p, &st, 0);
    SHOW(WTERMSIG(st));
    SHOW(b[1] == 'c');
    SHOW(shmctl(id, IPC_STAT, &d));
    SHOW(d.shm_nattch);
    d.shm_perm.mode = 0600;
    d.shm_perm.uid = 12;
    SHOW(shmctl(id, IPC_SET, &d));
    SHOW(shmctl(id, IPC_STAT, &d));
    SHOW(d.shm_perm.mode);
    SHOW(d.shm_perm.uid);
    SHOW(d.shm_perm.cuid);
    p = fork();
    if (!p) {
        CHECK(setgid(77) == 0 && setuid(77) == 0);
        SHOW(shmget(0x5173, 0, 0) == id);
        SHOW(shmget(0x5173, 0, 0400));
        SHOW(shmat(id, NULL, SHM_RDONLY) == (void *)-1);
        SHOW(shmctl(id, IPC_STAT, &d));
        SHOW(shmctl(id, IPC_SET, &d));
        SHOW(shmctl(id, IPC_RMID, NULL));
        exit(0);
    }
    waitpid(p, &st, 0);
    SHOW(shmctl(id, SHM_LOCK, NULL));
    SHOW(shmctl(id, IPC_STAT, &d));
    SHOW(d.shm_perm.mode);
    SHOW(shmctl(id, SHM_UNLOCK, NULL));
    struct shminfo si;
    struct shm_info su;
    SHOW(shmctl(0, IPC_INFO, (void *)&si) >= 0);
    SHOW(si.shmmni);
    SHOW(shmctl(0, SHM_INFO, (void *)&su) >= 0);
    CHECK(su.used_ids >= 1 && su.shm_tot >= 3);
    SHOW(shmctl(id, IPC_RMID, NULL));
    SHOW(shmctl(id, IPC_STAT, &d));
    SHOW(d.shm_perm.mode & SHM_DEST);
    SHOW(shmget(0x5173, 0, 0));
    char *late = shmat(id, NULL, 0);
    SHOW(late != (void *)-1 && late[0] == 'x');
    SHOW(shmdt(late));
    SHOW(shmdt(a));
    SHOW(shmdt(a));
    SHOW(shmdt(a + 1));
    SHOW(b[9999] == 'y');
    SHOW(munmap(b, 4096)); /* a part of it: the rest keeps it */
    SHOW(shmctl(id, IPC_STAT, &d));
    SHOW(shmdt(b + 4096));
    SHOW(shmctl(id, IPC_STAT, &d));
    id = shmget(IPC_PRIVATE, 4096, 0600);
    a = shmat(id, NULL, 0);
    SHOW(shmctl(id, IPC_RMID, NULL));
    SHOW(shmctl(id, 99, NULL));
    SHOW(shmctl(id, IPC_STAT, (void *)8));
}

static void *undoer(void *arg)
{
    struct sembuf b = {0, -3, SEM_UNDO};
    return (void *)(long)semop(*(int *)arg, &b, 1);
}

static void sem(void)
{
    struct semid_ds d;
    unsigned short vals[4] = {5, 6, 7, 8};
    int id = semget(0x5e3, 4, IPC_CREAT | 0600), st;
    CHECK(id >= 0);
    SHOW(semget(0x5e3, 5, 0));
    SHOW(semget(0x5e3, 2, 0) == id);
    SHOW(semget(0x5e3, 2, IPC_CREAT | IPC_EXCL));
    SHOW(semget(IPC_PRIVATE, 0, 0600));
    SHOW(semget(IPC_PRIVATE, -1, 0600));
    SHOW(semctl(id, 0, SETALL, vals));
    SHOW(semctl(id, 2, GETVAL));
    SHOW(semctl(id, 2, SETVAL, 32768));
    SHOW(semctl(id, 2, SETVAL, 9));
    SHOW(semctl(id, 4, GETVAL));
    memset(vals, 0, sizeof vals);
    SHOW(semctl(id, 0, GETALL, vals));
    SHOW(vals[2] * 1000 + vals[3]);
    SHOW(semctl(id, 2, GETPID) == getpid());
    SHOW(semctl(id, 0, IPC_STAT, &d));
    SHOW(d.sem_nsems);
    SHOW(d.sem_otime);
    struct sembuf b[3] = {{0, -5, IPC_NOWAIT}, {1, -7, IPC_NOWAIT}, {2, 1, 0}};
    SHOW(semop(id, b, 3));
    SHOW(semctl(id, 0, GETVAL)); /* all or nothing */
    b[1].sem_op = -6;
    SHOW(semop(id, b, 3));
    SHOW(semctl(id, 0, GETVAL));
    SHOW(semctl(id, 2, GETVAL));
    b[0] = (struct sembuf){0, 0, IPC_NOWAIT};
    SHOW(semop(id, b, 1));
    b[0].sem_num = 2;
    SHOW(semop(id, b, 1));
    b[0].sem_num = 9;
    SHOW(semop(id, b, 1));
    SHOW(semop(id, b, 0));
    SHOW(semop(id, b, 501));
    SHOW(semop(id, (void *)8, 1));
    b[0] = (struct sembuf){0, 32767, 0}, b[1] = (struct sembuf){0, 1, 0};
    SHOW(semop(id, b, 2));
    struct timespec ts = {0, 20000000}, bad = {0, 1000000000};
    b[0] = (struct sembuf){0, -1, 0};
    SHOW(semtimedop(id, b, 1, &ts));
    SHOW(semtimedop(id, b, 1, &bad));
    pid_t p = fork();
    if (!p)
        _exit(semop(id, b, 1) ? errno : 50);
    while (semctl(id, 0, GETNCNT) != 1)
        usleep(1000);
    SHOW(semctl(id, 0, GETZCNT));
    SHOW(semctl(id, 0, SETVAL, 1));
    waitpid(p, &st, 0);
    SHOW(WEXITSTATUS(st));
    /* undo, of a process and of all its threads */
    semctl(id, 0, SETVAL, 10);
    p = fork();
    if (!p) {
        pthread_t t;
        struct sembuf u[2] = {{0, -3, SEM_UNDO}, {1, 4, SEM_UNDO}};
        CHECK(semop(id, u, 2) == 0);
        pthread_create(&t, NULL, undoer, &id);
        pthread_join(t, NULL);
        SHOW(semctl(id, 0, GETVAL));
        exit(0);
    }
    waitpid(p, &st, 0);
    SHOW(semctl(id, 0, GETVAL));
    SHOW(semctl(id, 1, GETVAL));
    /* one who waits for zero, one who is left when the set goes */
    semctl(id, 3, SETVAL, 2);
    p = fork();
    if (!p) {
        struct sembuf z = {3, 0, 0};
        if (semop(id, &z, 1))
            _exit(1);
        z.sem_op = -1;
        _exit(semop(id, &z, 1) ? errno : 2);
    }
    while (semctl(id, 3, GETZCNT) != 1)
        usleep(1000);
    b[0] = (struct sembuf){3, -1, 0};
    semop(id, b, 1);
    semop(id, b, 1);
    while (semctl(id, 3, GETNCNT) != 1)
        usleep(1000);
    SHOW(semctl(id, 0, IPC_RMID));
    waitpid(p, &st, 0);
    SHOW(WEXITSTATUS(st) == EIDRM);
    SHOW(semop(id, b, 1));
    SHOW(semctl(id, 0, IPC_STAT, &d));
    struct seminfo si;
    SHOW(semctl(0, 0, IPC_INFO, &si) >= 0);
    SHOW(si.semmsl);
    SHOW(si.semopm);
    SHOW(si.semvmx);
}

struct m {
    long type;
    char text[100];
};

static void msg(void)
{
    struct msqid_ds d;
    struct m m = {1, "one"};
    int id = msgget(0x3e9, IPC_CREAT | 0600), st;
    SHOW(msgget(0x3e9, IPC_CREAT | IPC_EXCL));
    SHOW(msgget(0x3e9, 0) == id);
    SHOW(msgsnd(id, &m, 4, 0));
    m.type = 2, strcpy(m.text, "two");
    SHOW(msgsnd(id, &m, 4, 0));
    m.type = 3, strcpy(m.text, "three");
    SHOW(msgsnd(id, &m, 6, 0));
    m.type = 0;
    SHOW(msgsnd(id, &m, 4, 0));
    m.type = -1;
    SHOW(msgsnd(id, &m, 4, 0));
    m.type = 1;
    SHOW(msgsnd(id, &m, 8193, 0));
    SHOW(msgsnd(id, &m, -1, 0));
    SHOW(msgsnd(id, (void *)8, 4, 0));
    SHOW(msgctl(id, IPC_STAT, &d));
    SHOW(d.msg_qnum);
    SHOW(d.msg_cbytes);
    SHOW(d.msg_qbytes);
    CHECK(d.msg_lspid == getpid() && d.msg_lrpid == 0 && d.msg_stime > 0);
    SHOW(msgrcv(id, &m, 100, 2, 0));
    SHOW(strcmp(m.text, "two"));
    SHOW(msgrcv(id, &m, 3, 3, 0));
    SHOW(msgrcv(id, &m, 3, 3, MSG_NOERROR));
    SHOW(m.type);
    SHOW(msgrcv(id, &m, 100, 9, IPC_NOWAIT));
    m.type = 7;
    msgsnd(id, &m, 0, 0);
    m.type = 5;
    msgsnd(id, &m, 0, 0);
    SHOW(msgrcv(id, &m, 100, 1, MSG_EXCEPT));
    SHOW(m.type);
    SHOW(msgrcv(id, &m, 100, -6, 0));
    SHOW(m.type);
    SHOW(msgrcv(id, &m, 100, -6, 0));
    SHOW(m.type);
    SHOW(msgrcv(id, &m, 100, 0, IPC_NOWAIT));
    SHOW(msgrcv(id, &m, 100, 0, MSG_COPY | IPC_NOWAIT));
    SHOW(msgrcv(id, &m, 100, 0, MSG_COPY));
    SHOW(msgrcv(id, &m, -1, 0, 0));
    d.msg_qbytes = 200;
    SHOW(msgctl(id, IPC_SET, &d));
    m.type = 1;
    int n = 0;
    while (msgsnd(id, &m, 50, IPC_NOWAIT) == 0)
        n++;
    SHOW(errno == EAGAIN ? n : -errno);
    pid_t p = fork();
    if (!p)
        _exit(msgsnd(id, &m, 50, 0) ? errno : 60);
    usleep(20000);
    SHOW(msgrcv(id, &m, 100, 0, 0));
    waitpid(p, &st, 0);
    SHOW(WEXITSTATUS(st));
    p = fork();
    if (!p)
        _exit(msgrcv(id, &m, 100, 44, 0) < 0 ? errno : 60);
    usleep(20000);
    SHOW(msgctl(id, IPC_RMID, NULL));
    waitpid(p, &st, 0);
    SHOW(WEXITSTATUS(st) == EIDRM);
    SHOW(msgctl(id, IPC_STAT, &d));
    struct msginfo mi;
    SHOW(msgctl(0, IPC_INFO, (void *)&mi) >= 0);
    SHOW(mi.msgmax);
    SHOW(mi.msgmnb);
}

static void posix_queues(void)
{
    struct mq_attr at = {.mq_maxmsg = 4, .mq_msgsize = 16}, got;
    char b[16], small[4];
    unsigned prio;
    mqd_t q = SHOW(mq_open("/cordon-q", O_RDWR | O_CREAT | O_EXCL, 0640, &at));
    SHOW(mq_open("/cordon-q", O_RDWR | O_CREAT | O_EXCL, 0640, &at));
    SHOW(mq_open("/cordon-none", O_RDWR));
    SHOW(mq_open("/a/b", O_RDWR | O_CREAT, 0600, NULL));
    SHOW(mq_open("/", O_RDWR | O_CREAT, 0600, NULL));
    SHOW(mq_open("noslash", O_RDWR | O_CREAT, 0600, NULL));
    struct mq_attr bad = {.mq_maxmsg = 0, .mq_msgsize = 16};
    SHOW(mq_open("/cordon-bad", O_RDWR | O_CREAT, 0600, &bad));
    bad.mq_maxmsg = 4, bad.mq_msgsize = -1;
    SHOW(mq_open("/cordon-bad", O_RDWR | O_CREAT, 0600, &bad));
    SHOW(mq_getattr(q, &got));
    SHOW(got.mq_maxmsg * 1000 + got.mq_msgsize);
    SHOW(mq_send(q, "low", 4, 1));
    SHOW(mq_send(q, "high", 5, 9));
    SHOW(mq_send(q, "high2", 6, 9));
    SHOW(mq_send(q, "too long a message", 18, 9));
    SHOW(mq_send(q, "x", 1, 32768));
    SHOW(mq_getattr(q, &got));
    SHOW(got.mq_curmsgs);
    struct stat st;
    SHOW(fstat(q, &st));
    SHOW(st.st_mode);
    SHOW(st.st_size);
    struct pollfd pf = {q, POLLIN | POLLOUT};
    SHOW(poll(&pf, 1, 0));
    SHOW(pf.revents);
    SHOW(mq_receive(q, small, 4, &prio));
    SHOW(mq_receive(q, b, 16, &prio));
    SHOW(prio);
    SHOW(strcmp(b, "high"));
    SHOW(mq_receive(q, b, 16, &prio));
    SHOW(strcmp(b, "high2"));
    SHOW(mq_receive(q, b, 16, &prio));
    SHOW(prio);
    struct timespec past = {1, 0}, badt = {1, 1000000000};
    SHOW(mq_timedreceive(q, b, 16, &prio, &past));
    SHOW(mq_timedreceive(q, b, 16, &prio, &badt));
    at.mq_flags = O_NONBLOCK;
    SHOW(mq_setattr(q, &at, &got));
    SHOW(mq_receive(q, b, 16, &prio));
    for (int i = 0; i < 4; i++)
        mq_send(q, "f", 1, i);
    SHOW(mq_send(q, "f", 1, 0));
    SHOW(poll(&pf, 1, 0));
    SHOW(pf.revents);
    SHOW(read(q, b, 16) > 20);
    int ro = SHOW(mq_open("/cordon-q", O_RDONLY));
    SHOW(mq_send(ro, "f", 1, 0));
    SHOW(fcntl(ro, F_GETFD));
    signal(SIGUSR1, SIG_IGN);
    at.mq_flags = 0;
    mq_setattr(q, &at, NULL);
    pid_t p = fork();
    int ws;
    if (!p)
        _exit(mq_send(q, "w", 1, 31) ? errno : 9);
    usleep(20000);
    SHOW(mq_receive(q, b, 16, &prio));
    SHOW(prio);
    waitpid(p, &ws, 0);
    SHOW(WEXITSTATUS(ws));
    SHOW(mq_receive(q, b, 16, &prio));
    SHOW(prio);
    SHOW(mq_unlink("/cordon-q"));
    SHOW(mq_unlink("/cordon-q"));
    SHOW(mq_receive(q, b, 16, &prio));
    SHOW(mq_close(q));
    SHOW(mq_close(q));
    SHOW(mq_send(q, "f", 1, 0));
    SHOW(mq_getattr(0, &got));
    struct sigevent ev = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1, .sigev_value.sival_int = 12};
    sigset_t set;
    siginfo_t si;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    signal(SIGUSR1, SIG_DFL);
    sigprocmask(SIG_BLOCK, &set, NULL);
    q = mq_open("/cordon-r", O_RDWR | O_CREAT, 0600, NULL);
    mq_unlink("/cordon-r");
    SHOW(mq_getattr(q, &got));
    SHOW(got.mq_maxmsg * 10000 + got.mq_msgsize);
    SHOW(mq_notify(q, &ev));
    SHOW(mq_notify(q, &ev));
    p = fork();
    if (!p) {
        _exit(mq_notify(q, &ev) == -1 && errno == EBUSY && mq_send(q, "n", 1, 0) == 0 ? 11 : 1);
    }
    SHOW(sigwaitinfo(&set, &si));
    SHOW(si.si_code);
    SHOW(si.si_value.sival_int);
    CHECK(si.si_pid == p);
    waitpid(p, &ws, 0);
    SHOW(WEXITSTATUS(ws));
    SHOW(mq_notify(q, &ev));
    SHOW(mq_notify(q, NULL));
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    shm();
    sem();
    msg();
    posix_queues();
    return 0;
}
