// injection.c: a profiler's library for tests. It writes the ranges that begin and end to the file that FAKE_NVTX names.

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

typedef void (*function)(void);

struct callbacks {
	size_t size;
	int (*places)(int module, function ***table, unsigned *size);
};

static FILE *out;

static uint64_t start(const char *name)
{
	static uint64_t ranges;
	fprintf(out, "start %lu %s\n", (unsigned long)++ranges, name);
	fflush(out);
	return ranges;
}

static void end(uint64_t range)
{
	fprintf(out, "end %lu\n", (unsigned long)range);
	fflush(out);
}

int InitializeInjectionNvtx2(const void *(*export_table)(uint32_t))
{
	const struct callbacks *c = export_table(1);
	function **table;
	unsigned size;
	out = fopen(getenv("FAKE_NVTX"), "w");
	if (!c || c->size < sizeof *c || !out || !c->places(1, &table, &size) || size != 16 || table[0] || table[16])
		return 0;
	*table[5] = (function)start;
	*table[7] = (function)end;
	return c->places(2, &table, &size) == 0;
}
