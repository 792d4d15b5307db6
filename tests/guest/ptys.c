/* Pseudo terminals: line discipline, modes, jobs, hang-up (termios(3), ioctl_tty(2)). */
#include "vfs_check.h"
#include <pty.h>
#include <sys/ioctl.h>
#include <termios.h>

static int m, s;

static void show_bytes(const char *what, const char *p, long n)
{
    printf("%s %ld: ", what, n);
    for (long i = 0; i < n; i++)
        printf(p[i] >= 32 && p[i] < 127 ? "%c" : "\\%o", p[i] & 0xff);
    printf("%s\n", n < 0 ? strerrorname_np(errno) : "");
}

/* The host moves bytes between the two sides in the background. */
static void settle(void)
{
    usleep(20000);
}

static void screen(void)
{
    char b[8192];
    settle();
    long n = read(m, b, sizeof b);
    show_bytes(" screen", b, n);
}

static void program(void)
{
    char b[8192];
    settle();
    long n = read(s, b, sizeof b);
    show_bytes(" program", b, n);
}

static void type(const char *text)
{
    show_bytes("type", text, strlen(text));
    write(m, text, strlen(text));
    settle();
}

static void mode(int l_off, int l_on, int i_on, int o_on)
{
    struct termios t;
    tcgetattr(s, &t);
    t.c_lflag = (t.c_lflag & ~l_off) | l_on;
    t.c_iflag |= i_on;
    t.c_oflag |= o_on;
    SHOW(tcsetattr(s, TCSANOW, &t));
}

static int bits(int fd)
{
    struct pollfd p = {fd, POLLIN | POLLOUT | POLLPRI, 0};
    poll(&p, 1, 0);
    return p.revents;
}

static void lines(void)
{
    int n;
    type("hello\r");
    screen();
    program();
    type("wrong\177\177ight\tab\tb\177\177\177\177x\r");
    screen();
    program();
    type("two words\027more\025killed\nnext\022\004");
    screen();
    program();
    program();
    program();
    type("\026\003lit\026\026\n");
    screen();
    program();
    type("eof\004\004");
    screen();
    program();
    program();
    type("part");
    SHOW(bits(s));
    SHOW(ioctl(s, FIONREAD, &n));
    SHOW(n);
    type("\n");
    SHOW(bits(s));
    SHOW(ioctl(s, FIONREAD, &n));
    SHOW(n);
    screen();
    program();
    write(s, "a\nb\tc\n", 6);
    screen();
}

static void raw(void)
{
    struct termios t;
    mode(ICANON | ECHO, 0, 0, 0);
    type("x\177\003y\004");
    screen();
    program();
    tcgetattr(s, &t);
    t.c_cc[VMIN] = 3;
    tcsetattr(s, TCSANOW, &t);
    type("ab");
    SHOW(bits(s));
    type("c");
    SHOW(bits(s));
    program();
    t.c_cc[VMIN] = 0;
    t.c_cc[VTIME] = 1;
    tcsetattr(s, TCSANOW, &t);
    fcntl(s, F_SETFL, 0);
    program();
    type("q");
    program();
    t.c_cc[VMIN] = 5;
    tcsetattr(s, TCSANOW, &t);
    type("rs");
    program();
    fcntl(s, F_SETFL, O_NONBLOCK);
    t.c_cc[VMIN] = 1;
    t.c_cc[VTIME] = 0;
    tcsetattr(s, TCSANOW, &t);
    type("typed before");
    mode(0, ICANON | ECHO, 0, 0);
    program();
    type("\n");
    screen();
    program();
}

static void flow(void)
{
    type("\023");
    SHOW(write(s, "stopped", 7));
    SHOW(bits(s) & POLLOUT);
    screen();
    type("\021");
    SHOW(write(s, "on", 2));
    screen();
    SHOW(tcflow(s, TCOOFF));
    SHOW(write(s, "x", 1));
    SHOW(tcflow(s, TCOON));
    SHOW(write(s, "y", 1));
    screen();
    SHOW(tcflow(s, TCIOFF));
    screen();
    type("lost");
    SHOW(tcflush(s, TCIFLUSH));
    screen();
    type("\n");
    screen();
    program();
    SHOW(tcflush(s, 7));
}

static void packet(void)
{
    int on = 1;
    SHOW(ioctl(m, TIOCPKT, &on));
    write(s, "data", 4);
    screen();
    type("\023");
    SHOW(bits(m) & (POLLIN | POLLPRI));
    screen();
    type("\021");
    screen();
    tcflush(s, TCIOFLUSH);
    screen();
    on = 0;
    SHOW(ioctl(m, TIOCPKT, &on));
}

static volatile int winch, hup;
static void on_winch(int sig)
{
    (void)sig;
    winch++;
}
static void on_hup(int sig)
{
    (void)sig;
    hup++;
}

static void session(void)
{
    int status, p[2];
    char c;
    struct winsize w = {30, 90, 0, 0};

    pipe(p);
    SHOW(openpty(&m, &s, NULL, NULL, NULL));
    fcntl(m, F_SETFL, O_NONBLOCK);
    pid_t pid = fork();
    if (pid == 0) {
        char name[64];
        pid_t child;
        SHOW(open("/dev/tty", O_RDWR));
        SHOW(ioctl(s, TIOCGSID, &status));
        SHOW(setsid() == getpid());
        ptsname_r(m, name, sizeof name);
        SHOW(ioctl(s, TIOCSCTTY, 0));
        SHOW(tcgetsid(s) == getpid());
        SHOW(tcgetpgrp(s) == getpid());
        close(SHOW(open("/dev/tty", O_RDWR)));
        signal(SIGWINCH, on_winch);
        SHOW(ioctl(m, TIOCSWINSZ, &w));
        SHOW(ioctl(m, TIOCSWINSZ, &w));
        SHOW(winch);
        type("\032");
        child = fork();
        if (child == 0) {
            setpgid(0, 0);
            read(s, &c, 1); /* a background job: SIGTTIN */
            _exit(3);
        }
        setpgid(child, child);
        SHOW(waitpid(child, &status, WUNTRACED) == child);
        SHOW(WIFSTOPPED(status) && WSTOPSIG(status) == SIGTTIN);
        SHOW(tcsetpgrp(s, child));
        kill(child, SIGCONT);
        type("\003");
        SHOW(waitpid(child, &status, WUNTRACED) == child);
        SHOW(WIFSIGNALED(status) && WTERMSIG(status) == SIGINT);
        signal(SIGTTOU, SIG_IGN);
        SHOW(tcsetpgrp(s, getpid()));
        SHOW(tcsetpgrp(s, 999999));
        signal(SIGHUP, on_hup);
        close(m);
        write(p[1], "k", 1);
        for (int i = 0; i < 100 && !hup; i++)
            usleep(20000);
        SHOW(hup);
        SHOW(read(s, &c, 1));
        SHOW(write(s, "x", 1));
        SHOW(bits(s));
        SHOW(ioctl(s, TIOCGWINSZ, &w));
        SHOW(open("/dev/tty", O_RDWR));
        SHOW(open(name, O_RDWR | O_NOCTTY));
        _exit(0);
    }
    read(p[0], &c, 1);
    close(m);
    waitpid(pid, &status, 0);
    SHOW(WEXITSTATUS(status));
}

static void hangup(void)
{
    char c;
    int m2 = posix_openpt(O_RDWR | O_NOCTTY), s2;
    SHOW(openpty(&m, &s, NULL, NULL, NULL));
    SHOW(open(ptsname(m2), O_RDWR | O_NOCTTY));
    SHOW(unlockpt(m2));
    s2 = SHOW(open(ptsname(m2), O_RDWR | O_NOCTTY) >= 0) ? open(ptsname(m2), O_RDWR | O_NOCTTY) : -1;
    SHOW(bits(m2));
    close(s2);
    SHOW(isatty(m2));
    char name[64];
    ptsname_r(m2, name, sizeof name);
    s2 = open(name, O_RDWR | O_NOCTTY);
    close(m2);
    SHOW(read(s2, &c, 1));
    SHOW(write(s2, "x", 1));
    SHOW(bits(s2));
    SHOW(access(name, F_OK));
    close(s);
    SHOW(bits(m));
    SHOW(read(m, &c, 1));
}

int main(void)
{
    struct winsize w;
    setvbuf(stdout, NULL, _IONBF, 0);
    alarm(30);
    SHOW(openpty(&m, &s, NULL, NULL, NULL));
    fcntl(m, F_SETFL, O_NONBLOCK);
    fcntl(s, F_SETFL, O_NONBLOCK);
    SHOW(ioctl(m, TIOCGWINSZ, &w));
    SHOW(w.ws_row);
    SHOW(bits(m));
    SHOW(bits(s));
    lines();
    raw();
    flow();
    packet();
    session();
    hangup();
    return 0;
}
