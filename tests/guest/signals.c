#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <signal.h>
#include <unistd.h>
#include <errno.h>
#include <sys/wait.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <stdlib.h>
#include <ucontext.h>
#include <sys/syscall.h>
#include <time.h>
static volatile int hits; static volatile int lastcode; static siginfo_t last; static volatile void*addr;
static void h(int s){hits++;}
static void hi(int s,siginfo_t*si,void*u){hits++;last=*si;}
static void hseg(int s,siginfo_t*si,void*u){ucontext_t*c=u;last=*si; mprotect((void*)((long)si->si_addr&~4095),4096,3); hits++;}
static void hill(int s,siginfo_t*si,void*u){ucontext_t*c=u;last=*si;c->uc_mcontext.gregs[REG_RIP]+=2;hits++;}
#define CHECK(x) do{ if(!(x)) {printf("FAIL %s:%d %s errno=%d\n",__FILE__,__LINE__,#x,errno);} }while(0)
static void altcheck(int s){ char c; stack_t ss; sigaltstack(0,&ss); CHECK(&c>(char*)ss.ss_sp&&&c<(char*)ss.ss_sp+ss.ss_size); CHECK(ss.ss_flags==SS_ONSTACK); hits++;}
static double xv;
static void fph(int s){ volatile double d=1.5; for(int i=0;i<10;i++) d=d*3.1; xv=d; __asm__ volatile("pxor %%xmm0,%%xmm0;pxor %%xmm7,%%xmm7;pxor %%xmm15,%%xmm15":::"xmm0","xmm7","xmm15"); hits++;}
int main(){
  struct sigaction sa={0}; sa.sa_handler=h; sigaction(SIGUSR1,&sa,0);
  raise(SIGUSR1); CHECK(hits==1);
  sa.sa_sigaction=hi; sa.sa_flags=SA_SIGINFO; sigaction(SIGUSR2,&sa,0);
  kill(getpid(),SIGUSR2); CHECK(hits==2); CHECK(last.si_pid==getpid()); CHECK(last.si_code==SI_USER);
  union sigval v; v.sival_int=42; sigqueue(getpid(),SIGUSR2,v); CHECK(last.si_code==SI_QUEUE&&last.si_value.sival_int==42);
  // blocked & pending
  sigset_t set,old; sigemptyset(&set); sigaddset(&set,SIGUSR1); sigprocmask(SIG_BLOCK,&set,&old); hits=0;
  raise(SIGUSR1); raise(SIGUSR1); CHECK(hits==0); sigset_t pend; sigpending(&pend); CHECK(sigismember(&pend,SIGUSR1));
  sigprocmask(SIG_SETMASK,&old,0); CHECK(hits==1);
  // rt queue
  sigaction(SIGRTMIN+1,&sa,0); sigemptyset(&set); sigaddset(&set,SIGRTMIN+1); sigprocmask(SIG_BLOCK,&set,0); hits=0;
  for(int i=0;i<5;i++){v.sival_int=i; sigqueue(getpid(),SIGRTMIN+1,v);} sigprocmask(SIG_UNBLOCK,&set,0); CHECK(hits==5); CHECK(last.si_value.sival_int==4);
  // segv
  char*m=mmap(0,8192,PROT_NONE,MAP_PRIVATE|MAP_ANONYMOUS,-1,0); sa.sa_sigaction=hseg; sigaction(SIGSEGV,&sa,0); hits=0;
  m[5]=7; CHECK(hits==1); CHECK(last.si_addr==m+5); CHECK(last.si_code==SEGV_ACCERR); CHECK(m[5]==7);
  sa.sa_sigaction=hill; sigaction(SIGILL,&sa,0); hits=0; __asm__ volatile("ud2"); CHECK(hits==1); CHECK(last.si_code==ILL_ILLOPN);
  // fpe
  // altstack
  static char st[65536]; stack_t ss={.ss_sp=st,.ss_size=sizeof st}; CHECK(sigaltstack(&ss,0)==0); sa.sa_handler=altcheck; sa.sa_flags=SA_ONSTACK; sigaction(SIGUSR1,&sa,0); hits=0; raise(SIGUSR1); CHECK(hits==1);
  // xstate preserved
  sa.sa_handler=fph; sa.sa_flags=0; sigaction(SIGUSR1,&sa,0);
  { register double a __asm__("xmm7")=1.25; double out; pid_t p=getpid(); long rc;
    __asm__ volatile("movsd %1,%%xmm7\n\tmov $62,%%eax\n\tmov %2,%%edi\n\tmov $10,%%esi\n\tsyscall\n\tmovsd %%xmm7,%0":"=m"(out):"m"((double){1.25}),"r"(p):"rax","rdi","rsi","rcx","r11","xmm7","memory"); CHECK(out==1.25); }
  // EINTR and restart
  int pp[2]; pipe(pp); char c;
  sa.sa_handler=h; sa.sa_flags=0; sigaction(SIGALRM,&sa,0);
  if(fork()==0){usleep(50000); kill(getppid(),SIGALRM); usleep(50000); kill(getppid(),SIGALRM); usleep(30000); write(pp[1],"z",1); _exit(0);}
  CHECK(read(pp[0],&c,1)==-1&&errno==EINTR);
  sa.sa_flags=SA_RESTART; sigaction(SIGALRM,&sa,0); CHECK(read(pp[0],&c,1)==1&&c=='z'); int s; wait(&s);
  // sigsuspend
  sigemptyset(&set); sigaddset(&set,SIGUSR1); sigprocmask(SIG_BLOCK,&set,0); raise(SIGUSR1); hits=0; sa.sa_handler=h; sigaction(SIGUSR1,&sa,0);
  sigset_t none; sigemptyset(&none); CHECK(sigsuspend(&none)==-1&&errno==EINTR); CHECK(hits==1); sigprocmask(SIG_BLOCK,0,&old); CHECK(sigismember(&old,SIGUSR1));
  // sigtimedwait
  raise(SIGUSR1); siginfo_t si; struct timespec ts={0,10000000}; CHECK(sigtimedwait(&set,&si,&ts)==SIGUSR1); CHECK(sigtimedwait(&set,&si,&ts)==-1&&errno==EAGAIN);
  // stop/cont
  pid_t p=fork(); if(!p){ signal(SIGALRM,SIG_DFL); for(;;) pause(); }
  usleep(20000); kill(p,SIGSTOP); CHECK(waitpid(p,&s,WUNTRACED)==p); CHECK(WIFSTOPPED(s)&&WSTOPSIG(s)==SIGSTOP);
  kill(p,SIGCONT); CHECK(waitpid(p,&s,WCONTINUED)==p); CHECK(WIFCONTINUED(s));
  kill(p,SIGTERM); CHECK(waitpid(p,&s,0)==p); CHECK(WIFSIGNALED(s)&&WTERMSIG(s)==SIGTERM);
  signal(SIGSEGV,SIG_DFL);
  p=fork(); if(!p){ __asm__ volatile("mov $8,%rsp; push %rax"); } waitpid(p,&s,0); CHECK(WIFSIGNALED(s)&&WTERMSIG(s)==SIGSEGV);
  // bad sigreturn
  p=fork(); if(!p){ __asm__ volatile("mov $0x1000,%rsp; mov $15,%eax; syscall"); _exit(0);} waitpid(p,&s,0); CHECK(WIFSIGNALED(s)&&WTERMSIG(s)==SIGSEGV);
  // SIGCHLD ignored autoreap
  signal(SIGCHLD,SIG_IGN); p=fork(); if(!p)_exit(0); usleep(20000); CHECK(waitpid(p,&s,0)==-1&&errno==ECHILD);
  signal(SIGCHLD,SIG_DFL);
  siginfo_t info; p=fork(); if(!p)_exit(9); CHECK(waitid(P_PID,p,&info,WEXITED|WNOWAIT)==0); CHECK(info.si_status==9&&info.si_code==CLD_EXITED&&info.si_pid==p); CHECK(waitpid(p,&s,0)==p);
  int fd=-1; 
  // fpe
  p=fork(); if(!p){ __asm__ volatile("xor %ecx,%ecx; mov $1,%eax; cltd; idivl %ecx"); _exit(1);} waitpid(p,&s,0); CHECK(WIFSIGNALED(s)&&WTERMSIG(s)==SIGFPE);
  p=fork(); if(!p){ __asm__ volatile("int3"); _exit(0);} waitpid(p,&s,0); CHECK(WIFSIGNALED(s)&&WTERMSIG(s)==SIGTRAP);
  p=fork(); if(!p){ __asm__ volatile("hlt"); _exit(0);} waitpid(p,&s,0); CHECK(WIFSIGNALED(s)&&WTERMSIG(s)==SIGSEGV);
  puts("sig1 done");
}
