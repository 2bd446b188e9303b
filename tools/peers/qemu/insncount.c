// Counts what a program for arm64 executes under QEMU's user mode, as a plugin of QEMU 6 to 8 (API version 1):
//
//	cc -O2 -shared -fPIC -o insncount.so insncount.c
//	qemu-aarch64 -plugin insncount.so -d plugin -D counts.txt program
//
// Beside instructions it adds up, for every block of code that runs, the cycles that the busiest part of a core needs
// at least: count.go says which cores and what is assumed. Written from the API's description; the few declarations
// needed stand here because distributions do not ship the header.

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
enum { QEMU_PLUGIN_INLINE_ADD_U64 };

extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
extern struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
extern const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);
extern void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, struct qemu_plugin_tb *));
extern void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, int, void *, uint64_t);
extern void qemu_plugin_register_atexit_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, void *), void *);
extern void qemu_plugin_outs(const char *);

__attribute__((visibility("default"))) int qemu_plugin_version = 1;

// What is counted. The cycles are in units of 1/24.
enum { INSTRUCTIONS, MULTIPLY_ADDS, VECTOR, LOADS, STORES, NEOVERSE, APPLE, COUNTS };
static const char *names[] = {"instructions", "multiply-adds", "vector", "loads", "stores", "neoverse-v2", "apple-m"};
static uint64_t totals[COUNTS];

static uint64_t most(uint64_t a, uint64_t b) { return a > b ? a : b; }

// block classifies the instructions of a block of code, by the main groups of the encoding (Arm ARM, C4.1).
static void block(qemu_plugin_id_t id, struct qemu_plugin_tb *tb) {
  uint64_t n[COUNTS] = {0}, divides = 0;
  (void)id;
  n[INSTRUCTIONS] = qemu_plugin_tb_n_insns(tb);
  for (size_t i = 0; i < n[INSTRUCTIONS]; i++) {
    uint32_t w;
    memcpy(&w, qemu_plugin_insn_data(qemu_plugin_tb_get_insn(tb, i)), sizeof w);
    if ((w & 0x0a000000) == 0x08000000) { // loads and stores
      int pair = (w & 0x3a000000) == 0x28000000, vector = w >> 26 & 1;
      int load = pair ? w >> 22 & 1 : (w & 0x3b000000) == 0x18000000 || (w >> 22 & 1) || (!vector && (w >> 23 & 1));
      n[load ? LOADS : STORES] += pair && vector ? 2 : 1;
    } else if ((w & 0x0e000000) == 0x0e000000) { // floating point and vectors
      n[VECTOR]++;
      n[MULTIPLY_ADDS] += (w & 0xffe0fc00) == 0x4e20cc00 || (w & 0xffc0f400) == 0x4f801000;
      divides += (w & 0xffe0fc00) == 0x6e20fc00 || (w & 0xfffffc00) == 0x6ea1f800;
    }
  }
  // Both: eight instructions, four vector instructions, three loads and two stores a cycle. A divide of four lanes keeps
  // one of two pipes busy for four and a half cycles on the Neoverse V2, one of one for one on Apple's.
  uint64_t cycles = most(most(n[INSTRUCTIONS] * 3, n[VECTOR] * 6), most(n[LOADS] * 8, n[STORES] * 12));
  n[NEOVERSE] = most(cycles, divides * 54);
  n[APPLE] = most(cycles, divides * 24);
  for (int i = 0; i < COUNTS; i++)
    qemu_plugin_register_vcpu_tb_exec_inline(tb, QEMU_PLUGIN_INLINE_ADD_U64, &totals[i], n[i]);
}

static void finish(qemu_plugin_id_t id, void *user) {
  char line[80];
  (void)id;
  (void)user;
  for (int i = 0; i < COUNTS; i++) {
    snprintf(line, sizeof line, "%s %" PRIu64 "\n", names[i], totals[i]);
    qemu_plugin_outs(line);
  }
}

__attribute__((visibility("default"))) int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv) {
  (void)info;
  (void)argc;
  (void)argv;
  qemu_plugin_register_vcpu_tb_trans_cb(id, block);
  qemu_plugin_register_atexit_cb(id, finish, NULL);
  return 0;
}
