#ifndef UNIRESTORER_NVTX_H
#define UNIRESTORER_NVTX_H

#include <stdint.h>

// nvtx_open loads a profiler's library and returns whether it listens.
int nvtx_open(const char *path);
uint64_t nvtx_start(const char *name);
void nvtx_end(uint64_t range);

#endif
