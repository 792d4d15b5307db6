/* execve(2): what it keeps and resets, errors, scripts, limits, threads. Runs itself again with a mode as argument. */
#include "vfs_check.h"
#include <elf.h>
#include <pthread.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/resource.h>

extern char **environ;
static char self[4096];
static int quiet;

static int run(char *const argv[], char *const envp[])
{
    int st;
    pid_t p = fork();
    if (!p) {
        if (quiet)
            dup2(open("/dev/null", O_WRONLY), 2);
        execve(argv[0], argv, envp);
        _exit(errno == 0 ? 255 : 100 + errno % 100);
    }
    waitpid(p, &st, 0);
    return WIFEXITED(st) ? WEXITSTATUS(st) : -WTERMSIG(st);
}

static int run_file(const char *path)
{
    char *argv[] = {(char *)path, "arg", NULL};
    return run(argv, environ);
}

static void put(const char *path, const void *data, size_t n, int mode)
{
    unlink(path);
    int fd = open(path, O_CREAT | O_WRONLY | O_TRUNC, 0644);
    write(fd, data, n);
    fchmod(fd, mode);
    close(fd);
}

static void text(const char *path, const char *s)
{
    put(path, s, strlen(s), 0755);
}

static void *execer(void *arg)
{
    (void)arg;
    execl(self, self, "leader", NULL);
    return NULL;
}

static void *sleeper(void *arg)
{
    (void)arg;
    for (;;)
        pause();
}

/* What the new program looks at. */
static int mode(int argc, char **argv)
{
    if (!strcmp(argv[1], "kept")) {
        struct sigaction sa;
        sigset_t set;
        stack_t ss;
        CHECK(sigaction(SIGUSR1, NULL, &sa) == 0 && sa.sa_handler == SIG_DFL);
        CHECK(sigaction(SIGUSR2, NULL, &sa) == 0 && sa.sa_handler == SIG_IGN);
        sigprocmask(0, NULL, &set);
        CHECK(sigismember(&set, SIGTERM) && !sigismember(&set, SIGINT));
        CHECK(sigpending(&set) == 0 && sigismember(&set, SIGTERM));
        CHECK(sigaltstack(NULL, &ss) == 0 && ss.ss_flags == SS_DISABLE);
        CHECK(fcntl(100, F_GETFD) == -1 && fcntl(101, F_GETFD) == 0);
        CHECK(getauxval(AT_PAGESZ) == 4096 && getauxval(AT_CLKTCK) == 100 && getauxval(AT_SECURE) == 0);
        CHECK(getauxval(AT_SYSINFO_EHDR) != 0 && getauxval(AT_HWCAP) != 0 && getauxval(AT_RANDOM) != 0);
        CHECK(!strcmp((char *)getauxval(AT_EXECFN), self) && !strcmp((char *)getauxval(AT_PLATFORM), "x86_64"));
        char name[16];
        prctl(PR_GET_NAME, name);
        CHECK(!strncmp(name, "exec", 4));
        CHECK(argc == 3 && !strcmp(argv[2], ""));
        CHECK(environ[0] && !strcmp(environ[0], "A=b") && !environ[1]);
        return 0;
    }
    if (!strcmp(argv[1], "leader"))
        return syscall(SYS_gettid) == getpid() ? 0 : 1;
    return 99;
}

static void scripts(void)
{
    char buf[400];
    snprintf(buf, sizeof buf, "#!/bin/sh\nexit 5\n");
    text("s1", buf);
    CHECK(run_file("./s1") == 5);
    text("s2", "#!  /bin/sh   -e  \nfalse\nexit 3\n");
    CHECK(run_file("./s2") == 1);
    text("s3", "#!./s1\n");
    CHECK(run_file("./s3") == 5);
    text("s4", "#!./s4\n");
    CHECK(run_file("./s4") == 100 + ELOOP);
    text("s5", "#!\n");
    CHECK(run_file("./s5") == 100 + ENOEXEC);
    text("s6", "#!/no/such\n");
    CHECK(run_file("./s6") == 100 + ENOENT);
    text("s7", "echo plain\n");
    CHECK(run_file("./s7") == 100 + ENOEXEC);
    text("s8", "");
    CHECK(run_file("./s8") == 100 + ENOEXEC);
    put("s9", "#!/bin/sh\n", 10, 0644);
    CHECK(run_file("./s9") == 100 + EACCES);
    text("s10", "#!/bin/sh -c exit\\ 6 more words\n");
    printf("s10 %d\n", run_file("./s10"));
    memset(buf, 'x', sizeof buf);
    memcpy(buf, "#!/", 3);
    put("s11", buf, sizeof buf, 0755);
    CHECK(run_file("./s11") == 100 + ENOEXEC);
    CHECK(run_file(".") == 100 + EACCES);
    CHECK(run_file("./none") == 100 + ENOENT);
    CHECK(run_file("./s1/x") == 100 + ENOTDIR);
}

static void elves(void)
{
    static char image[1 << 20];
    int fd = open(self, O_RDONLY);
    ssize_t n = read(fd, image, sizeof image);
    close(fd);
    Elf64_Ehdr *e = (void *)image, save = *e;
    Elf64_Phdr *ph = (void *)(image + e->e_phoff);
#define TRY(what)                                                                                  \
    do {                                                                                           \
        what;                                                                                      \
        put("elf", image, n, 0755);                                                                \
        printf("%s: %d\n", #what, run_file("./elf"));                                              \
        *e = save;                                                                                 \
    } while (0)
    TRY((void)0);
    TRY(e->e_type = ET_REL);
    TRY(e->e_machine = EM_386);
    TRY(e->e_phentsize = 55);
    TRY(e->e_phnum = 0);
    TRY(e->e_phoff = 1ULL << 62);
    TRY(e->e_ident[1] = 'X');
    for (int i = 0; i < save.e_phnum; i++)
        if (ph[i].p_type == PT_INTERP) {
            Elf64_Phdr keep = ph[i];
            TRY(ph[i].p_filesz = 1);
            TRY(ph[i].p_filesz = 5000);
            ph[i] = keep;
            char was = image[ph[i].p_offset + 1];
            TRY(image[ph[i].p_offset + 1] = 'X');
            image[ph[i].p_offset + 1] = was;
        }
    put("elf", image, 64, 0755);
    printf("short: %d\n", run_file("./elf"));
    quiet = 1;
    /* hostile segments end in an errno or a signal, never in anything else */
    for (int i = 0; i < save.e_phnum; i++)
        if (ph[i].p_type == PT_LOAD) {
            static const uint64_t bad[] = {0, 1, 0xfff, 1ULL << 40, 1ULL << 47, 1ULL << 63, ~0ULL, ~0ULL << 12};
            for (int k = 0; k < 8; k++)
                for (int field = 0; field < 4; field++) {
                    Elf64_Phdr keep = ph[i];
                    *(field == 0   ? &ph[i].p_vaddr
                      : field == 1 ? &ph[i].p_offset
                      : field == 2 ? &ph[i].p_filesz
                                   : &ph[i].p_memsz) = bad[k];
                    put("elf", image, n, 0755);
                    int r = run_file("./elf");
                    CHECK(r != 0 || field >= 1);
                    ph[i] = keep;
                }
        }
    quiet = 0;
}

static void limits(void)
{
    static char big[200000];
    memset(big, 'a', sizeof big - 1);
    char *argv[] = {self, "kept", big, NULL}, *none[] = {NULL};
    CHECK(run(argv, none) == 100 + E2BIG);
    static char *many[70000];
    for (int i = 0; i < 69999; i++)
        many[i] = "0123456789012345678901234567890123456789";
    many[0] = self;
    struct rlimit rl = {1 << 20, 8 << 20}, old;
    getrlimit(RLIMIT_STACK, &old);
    setrlimit(RLIMIT_STACK, &rl);
    CHECK(run(many, none) == 100 + E2BIG);
    setrlimit(RLIMIT_STACK, &old);
    CHECK(execve(self, (char **)1, none) == -1 && errno == EFAULT);
    CHECK(execve((char *)1, none, none) == -1 && errno == EFAULT);
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IONBF, 0);
    readlink("/proc/self/exe", self, sizeof self - 1);
    if (argc > 1)
        return mode(argc, argv);
    scripts();
    elves();
    limits();

    pid_t p = fork();
    int st;
    if (!p) {
        sigset_t set;
        stack_t ss = {.ss_sp = malloc(65536), .ss_size = 65536};
        signal(SIGUSR1, SIG_ERR + 5);
        signal(SIGUSR2, SIG_IGN);
        sigaltstack(&ss, NULL);
        sigemptyset(&set);
        sigaddset(&set, SIGTERM);
        sigprocmask(SIG_BLOCK, &set, NULL);
        raise(SIGTERM);
        fcntl(dup2(0, 100), F_SETFD, FD_CLOEXEC);
        dup2(0, 101);
        char *a[] = {self, "kept", "", NULL}, *env[] = {"A=b", NULL};
        execve(self, a, env);
        _exit(1);
    }
    waitpid(p, &st, 0);
    CHECK(st == 0);
    for (int i = 0; i < 5; i++) {
        p = fork();
        if (!p) {
            pthread_t t;
            for (int k = 0; k < 4; k++)
                pthread_create(&t, NULL, sleeper, NULL);
            pthread_create(&t, NULL, execer, NULL);
            for (;;)
                pause();
        }
        waitpid(p, &st, 0);
        CHECK(st == 0);
    }
    int fd = open(self, O_RDONLY);
    p = fork();
    if (!p) {
        char *a[] = {"x", "leader", NULL};
        syscall(SYS_execveat, fd, "", a, environ, AT_EMPTY_PATH);
        _exit(1);
    }
    waitpid(p, &st, 0);
    CHECK(st == 0);
    CHECK(open(self, O_WRONLY) == -1 && errno == ETXTBSY);
    puts("done");
    return 0;
}
