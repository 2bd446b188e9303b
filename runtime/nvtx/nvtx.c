//go:build cuda && linux

// nvtx.c: the program's side of NVTX 3. The profiler's library asks for tables of the places of functions and puts its own
// into those that it serves. Of these, two are called here.

#include "nvtx.h"

#include <dlfcn.h>
#include <stddef.h>

typedef void (*function)(void);

enum { core = 1, core2 = 5, entries = 16 };      // modules, and how many functions either has
enum { range_start = 5, range_end = 7 };         // of core, with names in ASCII
enum { table_callbacks = 1, table_version = 3 }; // tables that the library asks for

static function core_functions[entries], core2_functions[entries];
static function *core_places[entries + 1], *core2_places[entries + 1]; // the first and the last are empty

static int places(int module, function ***out, unsigned *size)
{
	function **table = module == core ? core_places : module == core2 ? core2_places : NULL;
	if (!table)
		return 0;
	if (out)
		*out = table;
	if (size)
		*size = entries;
	return 1;
}

static void set_version(uint32_t version) { (void)version; }

static const void *export_table(uint32_t id)
{
	static const struct {
		size_t size;
		int (*places)(int, function ***, unsigned *);
	} callbacks = {sizeof callbacks, places};
	static const struct {
		size_t size;
		uint32_t version, reserved;
		void (*set_version)(uint32_t);
	} version = {sizeof version, 3, 0, set_version};
	return id == table_callbacks ? (const void *)&callbacks : id == table_version ? (const void *)&version : NULL;
}

int nvtx_open(const char *path)
{
	void *library = dlopen(path, RTLD_LAZY);
	if (!library)
		return 0;
	int (*start)(const void *(*)(uint32_t)) = (int (*)(const void *(*)(uint32_t)))dlsym(library, "InitializeInjectionNvtx2");
	for (int i = 1; i < entries; i++) {
		core_places[i] = &core_functions[i];
		core2_places[i] = &core2_functions[i];
	}
	return start && start(export_table) && core_functions[range_start] && core_functions[range_end];
}

uint64_t nvtx_start(const char *name) { return ((uint64_t (*)(const char *))core_functions[range_start])(name); }

void nvtx_end(uint64_t range) { ((void (*)(uint64_t))core_functions[range_end])(range); }
