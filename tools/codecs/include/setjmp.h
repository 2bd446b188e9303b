/* wasi-libc has no setjmp. What the libraries use it for is to leave a library that found an error; here that is a trap,
 * which ends the call from the host and leaves memory as it was, with every row decoded so far. */
#ifndef CODECS_SETJMP_H
#define CODECS_SETJMP_H
typedef int jmp_buf[1];
#define setjmp(env) ((void)(env), 0)
#define longjmp(env, value) __builtin_trap()
#endif
