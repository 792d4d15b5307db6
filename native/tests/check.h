/* An assertion for test programs: the first that fails ends the program with its place. */
#ifndef CORDON_TESTS_CHECK_H
#define CORDON_TESTS_CHECK_H

#include <stdio.h>
#include <stdlib.h>

#define CHECK(cond)                                                                          \
    do {                                                                                     \
        if (!(cond)) {                                                                       \
            fprintf(stderr, "%s:%d: %s: failed: %s\n", __FILE__, __LINE__, __func__, #cond); \
            exit(1);                                                                         \
        }                                                                                    \
    } while (0)

#endif
