/* Between wasaba.c and the test host. */
#ifndef WASABA_INTERNAL_H
#define WASABA_INTERNAL_H

#include <stddef.h>
#include <stdint.h>

/* Frees all memory of a call, and forgets the call. A component does not need it: its instance goes away. */
void wasaba_free_all(void);

const char *wasaba_taken(uint8_t *bytes, size_t size);

#endif
