/* shim.h: what both shims share. The host calls exported functions; a trap ends one call, not the instance. */
#ifndef CODECS_SHIM_H
#define CODECS_SHIM_H
#include <stddef.h>
#include <stdint.h>

#define EXPORT(name) __attribute__((export_name(#name))) name

/* note keeps the first fault of each kind for the host and counts all of them. */
void note_error(const char *fmt, ...);
void note_warning(const char *fmt, ...);
#endif
