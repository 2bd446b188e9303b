#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shim.h"

static char error_text[256], warning_text[256];
static int errors, warnings;

static void note(char *text, int *count, const char *fmt, va_list args) {
    if ((*count)++ == 0)
        vsnprintf(text, 256, fmt, args);
}

void note_error(const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    note(error_text, &errors, fmt, args);
    va_end(args);
}

void note_warning(const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    note(warning_text, &warnings, fmt, args);
    va_end(args);
}

char *EXPORT(error_message)(void) { return error_text; }
char *EXPORT(warning_message)(void) { return warning_text; }
int EXPORT(error_count)(void) { return errors; }
int EXPORT(warning_count)(void) { return warnings; }

void EXPORT(forget)(void) {
    errors = warnings = 0;
    error_text[0] = warning_text[0] = 0;
}

void *EXPORT(reserve)(size_t n) { return malloc(n); }
