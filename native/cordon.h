/* Types and small helpers that every native subject shares. */
#ifndef CORDON_H
#define CORDON_H

#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int32_t i32;
typedef int64_t i64;

#define CN_PAGE_SHIFT 12
#define CN_PAGE_SIZE 4096UL
#define CN_PAGE_MASK (~(CN_PAGE_SIZE - 1))

/* First address above the guest's user space. Stub code, control pages and the host's vDSO lie above it. */
#define CN_TASK_SIZE 0x7fff00000000UL

#define CN_LIKELY(x) __builtin_expect(!!(x), 1)
#define CN_UNLIKELY(x) __builtin_expect(!!(x), 0)

#endif
