/* Sets and constants of signals, for the files around signals.h. */
#ifndef CORDON_SIGSET_H
#define CORDON_SIGSET_H

#include <signal.h>

#include "signals.h"

#define SIG_BIT(sig)    (1UL << ((sig) - 1))
#define SIG_UNBLOCKABLE (SIG_BIT(SIGKILL) | SIG_BIT(SIGSTOP))
#define SIG_STOPS       (SIG_BIT(SIGSTOP) | SIG_BIT(SIGTSTP) | SIG_BIT(SIGTTIN) | SIG_BIT(SIGTTOU))
/* The default action is to do nothing. */
#define SIG_IGNORED \
    (SIG_BIT(SIGCONT) | SIG_BIT(SIGCHLD) | SIG_BIT(SIGWINCH) | SIG_BIT(SIGURG))
#define SIG_HANDLER_IGN 1UL
/* The kernel's, not in libc's headers. */
#define SIG_SA_RESTORER 0x04000000UL
#define SIG_SS_AUTODISARM (1U << 31)

/* stack_t */
struct cn_stack {
    u64 base;
    u32 flags, pad;
    u64 size;
};

/* Signals that are pending and not blocked. */
static inline u64 signals_due(const struct cn_sigtask *s)
{
    return (__atomic_load_n(s->pending, __ATOMIC_SEQ_CST) |
            __atomic_load_n(s->shared_pending, __ATOMIC_SEQ_CST)) &
           ~s->blocked;
}

#endif
