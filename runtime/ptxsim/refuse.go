package ptxsim

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// This file refuses what the assembler refuses, whether or not the simulator could execute it: instructions that the
// module's .version or .target does not have, operands of the wrong type or size, and limits. The rules are those of the
// PTX ISA 8.4, each instruction's section, as ptxas 12.4 applies them; a test compares with it over a corpus.

// needs says from which version of the PTX ISA (80 for 8.0) and which architecture an instruction may be used.
type needs struct {
	op      string
	mods    []string // all of which it has
	version int
	arch    int
	only    bool // the architecture with its specific features ("sm_90a") and no other
}

// features lists what is newer than PTX 6.0 and sm_70, and a few that are older. More specific entries of an opcode need
// no order: all that match must be met.
var features = []needs{
	{op: "cp", mods: []string{"async"}, version: 70, arch: 80},
	{op: "cp", mods: []string{"async", "bulk"}, version: 80, arch: 90},
	{op: "ldmatrix", version: 65, arch: 75},
	{op: "stmatrix", version: 78, arch: 90},
	{op: "movmatrix", version: 78, arch: 75},
	{op: "wmma", version: 60, arch: 70},
	{op: "mma", version: 64, arch: 70},
	{op: "mma", mods: []string{"m16n8k4"}, version: 70, arch: 80},
	{op: "mma", mods: []string{"m16n8k8"}, version: 65, arch: 75},
	{op: "mma", mods: []string{"m8n8k16"}, version: 65, arch: 75},
	{op: "mma", mods: []string{"m16n8k16"}, version: 70, arch: 80},
	{op: "mma", mods: []string{"m16n8k32"}, version: 70, arch: 80},
	{op: "mma", mods: []string{"m16n8k64"}, version: 70, arch: 80},
	{op: "mma", mods: []string{"m16n8k128"}, version: 70, arch: 80},
	{op: "mma", mods: []string{"m16n8k256"}, version: 70, arch: 80},
	{op: "mma", mods: []string{"e4m3"}, version: 84, arch: 89},
	{op: "mma", mods: []string{"e5m2"}, version: 84, arch: 89},
	{op: "wgmma", version: 80, arch: 90, only: true},
	{op: "setmaxnreg", version: 80, arch: 90, only: true},
	{op: "redux", version: 70, arch: 80},
	{op: "match", version: 60, arch: 70},
	{op: "activemask", version: 62, arch: 30},
	{op: "elect", version: 80, arch: 90},
	{op: "griddepcontrol", version: 78, arch: 90},
	{op: "mapa", version: 78, arch: 90},
	{op: "getctarank", version: 78, arch: 90},
	{op: "barrier", mods: []string{"cluster"}, version: 78, arch: 90},
	{op: "mbarrier", version: 70, arch: 80},
	{op: "mbarrier", mods: []string{"try_wait"}, version: 78, arch: 90},
	{op: "mbarrier", mods: []string{"expect_tx"}, version: 80, arch: 90},
	{op: "mbarrier", mods: []string{"complete_tx"}, version: 80, arch: 90},
	{op: "fence", version: 60, arch: 70},
	{op: "fence", mods: []string{"proxy", "async"}, version: 80, arch: 90},
	{op: "fence", mods: []string{"mbarrier_init"}, version: 80, arch: 90},
	{op: "nanosleep", version: 63, arch: 70},
	{op: "createpolicy", version: 74, arch: 80},
	{op: "applypriority", version: 74, arch: 80},
	{op: "discard", version: 74, arch: 80},
	{op: "szext", version: 76, arch: 70},
	{op: "bmsk", version: 76, arch: 70},
	{op: "dp4a", version: 50, arch: 61},
	{op: "dp2a", version: 50, arch: 61},
	{op: "lop3", version: 43, arch: 50},
	{op: "multimem", version: 81, arch: 90},
	{op: "tanh", version: 70, arch: 75},
	{op: "tanh", mods: []string{"bf16"}, version: 78, arch: 90},
	{op: "tanh", mods: []string{"bf16x2"}, version: 78, arch: 90},
	{op: "ex2", mods: []string{"f16"}, version: 70, arch: 75},
	{op: "ex2", mods: []string{"f16x2"}, version: 70, arch: 75},
	{op: "ex2", mods: []string{"bf16"}, version: 78, arch: 90},
	{op: "ex2", mods: []string{"bf16x2"}, version: 78, arch: 90},
	{op: "add", mods: []string{"bf16"}, version: 78, arch: 90},
	{op: "add", mods: []string{"bf16x2"}, version: 78, arch: 90},
	{op: "sub", mods: []string{"bf16"}, version: 78, arch: 90},
	{op: "sub", mods: []string{"bf16x2"}, version: 78, arch: 90},
	{op: "mul", mods: []string{"bf16"}, version: 78, arch: 90},
	{op: "mul", mods: []string{"bf16x2"}, version: 78, arch: 90},
	{op: "setp", mods: []string{"bf16"}, version: 78, arch: 90},
	{op: "setp", mods: []string{"bf16x2"}, version: 78, arch: 90},
	{op: "min", mods: []string{"f16"}, version: 70, arch: 80},
	{op: "min", mods: []string{"f16x2"}, version: 70, arch: 80},
	{op: "max", mods: []string{"f16"}, version: 70, arch: 80},
	{op: "max", mods: []string{"f16x2"}, version: 70, arch: 80},
	{op: "min", mods: []string{"NaN"}, version: 70, arch: 80},
	{op: "max", mods: []string{"NaN"}, version: 70, arch: 80},
	{op: "fma", mods: []string{"relu"}, version: 70, arch: 80},
	{op: "cvt", mods: []string{"relu"}, version: 70, arch: 80},
	{op: "cvt", mods: []string{"f16x2", "f32"}, version: 70, arch: 80},
	{op: "cvt", mods: []string{"tf32", "rn"}, version: 78, arch: 90},
	{op: "cvt", mods: []string{"tf32", "rz"}, version: 78, arch: 90},
	{op: "cvt", mods: []string{"e4m3x2"}, version: 78, arch: 89},
	{op: "cvt", mods: []string{"e5m2x2"}, version: 78, arch: 89},
	{op: "atom", mods: []string{"f16"}, version: 63, arch: 70},
	{op: "atom", mods: []string{"bf16"}, version: 78, arch: 90},
	{op: "atom", mods: []string{"bf16x2"}, version: 78, arch: 90},
	{op: "red", mods: []string{"bf16"}, version: 78, arch: 90},
	{op: "red", mods: []string{"bf16x2"}, version: 78, arch: 90},

	{mods: []string{"bf16"}, version: 70, arch: 80},
	{mods: []string{"bf16x2"}, version: 70, arch: 80},
	{mods: []string{"tf32"}, version: 70, arch: 80},
	{mods: []string{"cluster"}, version: 78, arch: 90},
	{mods: []string{"shared::cluster"}, version: 78, arch: 90},
	{mods: []string{"acquire"}, version: 60, arch: 70},
	{mods: []string{"release"}, version: 60, arch: 70},
	{mods: []string{"relaxed"}, version: 60, arch: 70},
	{mods: []string{"acq_rel"}, version: 60, arch: 70},
	{mods: []string{"L2::cache_hint"}, version: 74, arch: 80},
	{mods: []string{"L2::64B"}, version: 74, arch: 75},
	{mods: []string{"L2::128B"}, version: 74, arch: 75},
	{mods: []string{"L2::256B"}, version: 74, arch: 80},
}

// firstVersion is the version of the PTX ISA that first knew an architecture.
var firstVersion = map[string]int{
	"sm_10": 10, "sm_11": 10, "sm_12": 12, "sm_13": 12, "sm_20": 20, "sm_30": 30, "sm_32": 40, "sm_35": 31, "sm_37": 41,
	"sm_50": 40, "sm_52": 41, "sm_53": 42, "sm_60": 50, "sm_61": 50, "sm_62": 50, "sm_70": 60, "sm_72": 61, "sm_75": 63,
	"sm_80": 70, "sm_86": 71, "sm_87": 74, "sm_89": 78, "sm_90": 78, "sm_90a": 80, "sm_100": 86, "sm_100a": 86, "sm_100f": 88,
	"sm_101": 86, "sm_101a": 86, "sm_103": 88, "sm_103a": 88, "sm_103f": 88, "sm_120": 87, "sm_120a": 87, "sm_120f": 88,
	"sm_121": 88, "sm_121a": 88, "sm_121f": 88,
}

// versions are the minor versions that each major one of the PTX ISA has.
var versions = map[int]int{1: 5, 2: 3, 3: 2, 4: 3, 5: 0, 6: 5, 7: 8, 8: 8, 9: 9}

// isaVersion reads ".version".
func isaVersion(text string) (int, error) {
	a, b, ok := strings.Cut(text, ".")
	major, err1 := strconv.Atoi(a)
	minor, err2 := strconv.Atoi(b)
	last, known := versions[major]
	if !ok || err1 != nil || err2 != nil || !known || minor < 0 || minor > last {
		return 0, fmt.Errorf("there is no PTX ISA version %s", text)
	}
	return 10*major + minor, nil
}

// maxStaticShared is how much shared memory a kernel may declare; more must be asked for at the launch (CUDA Programming
// Guide 12.4, section 16.4).
const maxStaticShared = 48 << 10

// refuse returns the first error that an assembler would find in a parsed module.
func refuse(f *file) error {
	version, err := isaVersion(f.version)
	if err != nil {
		return err
	}
	first, known := firstVersion[f.target]
	switch {
	case !known:
		return fmt.Errorf("unknown .target %s", f.target)
	case version < first:
		return fmt.Errorf("PTX .version %s does not support .target %s", f.version, f.target)
	}
	r := &refusal{file: f, vars: map[string]bool{}, version: version, specific: strings.HasSuffix(f.target, "a")}
	for _, v := range f.vars {
		r.vars[v.name] = true
	}
	for _, fn := range f.funcs {
		r.vars[fn.name] = true
	}
	for _, fn := range f.funcs {
		if err := r.function(fn); err != nil {
			return fmt.Errorf("function %s: %w", fn.name, err)
		}
	}
	return nil
}

type refusal struct {
	file     *file
	vars     map[string]bool // of the module, and functions
	version  int
	specific bool
	fn       *function
}

func (r *refusal) function(fn *function) error {
	r.fn = fn
	if fn.entry {
		var params int64
		for _, v := range fn.params {
			params = max(params, v.off+v.size())
		}
		limit := int64(4352)
		if r.version >= 81 && r.file.arch >= 70 {
			limit = 32764
		}
		if params > limit {
			return fmt.Errorf("line %d: uses too much parameter space (%d bytes, at most %d)", fn.line, params, limit)
		}
	}
	for i := range fn.body {
		s := &fn.body[i]
		if err := r.statement(s); err != nil {
			return fmt.Errorf("line %d: %s: %w", s.line, s.text(), err)
		}
	}
	return nil
}

func (r *refusal) statement(s *stmt) error {
	if s.guard >= 0 && r.fn.regs[s.guard] != tPred {
		return fmt.Errorf("the guard is a %v register", r.fn.regs[s.guard])
	}
	for i := range features {
		n := &features[i]
		if n.op != "" && n.op != s.op || !n.matches(s.mods) {
			continue
		}
		what := strings.Join(append([]string{s.op}, n.mods...), ".")
		switch {
		case r.version < n.version:
			return fmt.Errorf("%s requires PTX ISA .version %d.%d or later", what, n.version/10, n.version%10)
		case n.only && (r.file.arch != n.arch || !r.specific):
			return fmt.Errorf("%s requires .target sm_%da", what, n.arch)
		case r.file.arch < n.arch:
			return fmt.Errorf("%s requires .target sm_%d or higher", what, n.arch)
		}
	}
	if err := r.names(s); err != nil {
		return err
	}
	if err := r.modifiers(s); err != nil {
		return err
	}
	return r.operands(s)
}

// specialNames are the special registers of the PTX ISA 8.4, section 10, without components and numbers.
var specialNames = []string{
	"WARP_SZ", "%tid", "%ntid", "%laneid", "%warpid", "%nwarpid", "%ctaid", "%nctaid", "%smid", "%nsmid", "%gridid", "%lanemask_", "%clock", "%pm",
	"%is_explicit_cluster", "%clusterid", "%nclusterid", "%cluster_", "%envreg", "%globaltimer", "%reserved_smem_", "%total_smem_size",
	"%aggr_smem_size", "%dynamic_smem_size", "%current_graph_exec",
}

// names checks that what operands name exists.
func (r *refusal) names(s *stmt) error {
	switch s.op {
	case "bra":
		if len(s.args) != 1 || s.args[0].kind != opdSymbol {
			return fmt.Errorf("target is not a label")
		}
		if lookupLabel(s.args[0].name, s.scope) == nil {
			return fmt.Errorf("unknown label %s", s.args[0].name)
		}
		return nil
	case "brx", "call":
		return nil
	}
	for _, o := range s.args {
		list := []operand{o}
		if o.kind == opdVector || o.kind == opdPair || o.kind == opdAddress {
			list = o.list
		}
		for _, e := range list {
			if e.kind != opdSymbol {
				continue
			}
			if err := r.name(s, e.name); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *refusal) name(s *stmt, name string) error {
	if strings.HasPrefix(name, "%") || name == "WARP_SZ" {
		if !slices.ContainsFunc(specialNames, func(n string) bool { return strings.HasPrefix(name, n) }) {
			return fmt.Errorf("unknown register %s", name)
		}
		if strings.Contains(name, "cluster") && (r.version < 78 || r.file.arch < 90) {
			return fmt.Errorf("%s requires PTX ISA .version 7.8 and .target sm_90 or higher", name)
		}
		return nil
	}
	for sc := s.scope; sc != nil; sc = sc.parent {
		if sc.vars[name] != nil {
			return nil
		}
	}
	if r.vars[name] {
		return nil
	}
	return fmt.Errorf("unknown name %s", name)
}

// modifiers checks those that an instruction must have, or cannot have with its type.
func (r *refusal) modifiers(s *stmt) error {
	types := s.types()
	t := tNone
	if len(types) > 0 {
		t = types[0]
	}
	rounds := s.has("rn", "rz", "rm", "rp")
	switch s.op {
	case "fma":
		if !rounds {
			return fmt.Errorf("needs a rounding modifier")
		}
	case "mad":
		if t.float() && !rounds {
			return fmt.Errorf("needs a rounding modifier")
		}
	case "div", "sqrt", "rcp":
		if t.float() && !rounds && !s.has("approx", "full") {
			return fmt.Errorf("needs a rounding mode or .approx")
		}
	case "rsqrt", "sin", "cos", "lg2", "ex2", "tanh":
		if !s.has("approx") {
			return fmt.Errorf("needs .approx")
		}
	case "shfl", "vote":
		if !s.has("sync") && r.version >= 64 && r.file.arch >= 70 {
			return fmt.Errorf("needs .sync")
		}
	case "ldmatrix", "stmatrix", "mma", "movmatrix", "match", "redux":
		if !s.has("sync") {
			return fmt.Errorf("needs .sync")
		}
	}
	if parts := s.has("lo", "hi", "wide"); (s.op == "mul" || s.op == "mad") && (t.integer() && !parts || t.float() && parts) {
		return fmt.Errorf("integers need one of .lo, .hi and .wide, which others do not have")
	}
	float := slices.ContainsFunc(types, func(t dtype) bool { return t.float() && t != tF64 })
	if s.has("ftz") && !float && s.op != "rcp" && s.op != "rsqrt" { // which have an .approx.ftz.f64
		return fmt.Errorf("no .ftz for type %v", t)
	}
	if s.has("sat") && (s.op == "add" || s.op == "sub" || s.op == "mad" || s.op == "mul" || s.op == "fma") && !float && t != tS32 {
		return fmt.Errorf("cannot saturate %v", t)
	}
	if s.has("v3") {
		return fmt.Errorf("unknown modifier .v3")
	}
	return nil
}

func (n *needs) matches(mods []string) bool {
	for _, m := range n.mods {
		if !slices.Contains(mods, m) {
			return false
		}
	}
	return true
}

// types returns the types among the modifiers.
func (s *stmt) types() (list []dtype) {
	for _, m := range s.mods {
		if t := typeNames[m]; t != tNone {
			list = append(list, t)
		}
	}
	return list
}

// has reports whether one of the modifiers is there.
func (s *stmt) has(mods ...string) bool {
	return slices.ContainsFunc(mods, func(m string) bool { return slices.Contains(s.mods, m) })
}

// shapes are the operands of regular instructions, a letter each: t of the instruction's type, w twice as wide, u a 32-bit
// count, p a predicate, k a constant; o is optional from there on.
var shapes = map[string]string{
	"add": "ttt", "sub": "ttt", "div": "ttt", "rem": "ttt", "min": "ttt", "max": "ttt", "copysign": "ttt", "addc": "ttt", "subc": "ttt",
	"mul": "ttt", "mad": "tttt", "fma": "tttt", "sad": "tttt", "madc": "tttt",
	"abs": "tt", "neg": "tt", "sqrt": "tt", "rcp": "tt", "rsqrt": "tt", "ex2": "tt", "lg2": "tt", "sin": "tt", "cos": "tt", "tanh": "tt",
	"and": "ttt", "or": "ttt", "xor": "ttt", "not": "tt", "cnot": "tt", "shl": "ttu", "shr": "ttu", "shf": "tttu",
	"bfe": "ttuu", "bfi": "tttuu", "popc": "ut", "clz": "ut", "bfind": "ut", "brev": "tt", "prmt": "tttt", "lop3": "ttttk", "selp": "tttp",
}

// onlyTypes are the types that regular instructions take where that is not every one.
var onlyTypes = map[string][]dtype{
	"and": {tPred, tB16, tB32, tB64}, "or": {tPred, tB16, tB32, tB64}, "xor": {tPred, tB16, tB32, tB64}, "not": {tPred, tB16, tB32, tB64},
	"shl": {tB16, tB32, tB64}, "bfe": {tU32, tU64, tS32, tS64}, "bfi": {tB32, tB64},
	"abs": {tS16, tS32, tS64, tF16, tF16x2, tBF16, tBF16x2, tF32, tF64}, "neg": {tS16, tS32, tS64, tF16, tF16x2, tBF16, tBF16x2, tF32, tF64},
	"ex2": {tF32, tF16, tF16x2, tBF16, tBF16x2}, "tanh": {tF32, tF16, tF16x2, tBF16, tBF16x2}, "lg2": {tF32}, "sin": {tF32}, "cos": {tF32},
	"rem": {tU16, tU32, tU64, tS16, tS32, tS64}, "popc": {tB32, tB64}, "clz": {tB32, tB64}, "brev": {tB32, tB64},
}

// operands checks types and sizes.
func (r *refusal) operands(s *stmt) error {
	types := s.types()
	switch s.op {
	case "ld", "ldu", "st":
		return r.access(s, types)
	case "atom", "red":
		return r.atomic(s, types)
	case "bar", "barrier":
		return r.barrier(s)
	case "setp":
		return r.compare(s, types)
	case "cvt":
		return r.convert(s, types)
	case "cvta":
		return r.generic(s, types)
	case "cp":
		return asyncCopySize(s)
	case "shfl", "vote", "redux", "isspacep":
		return r.warpwide(s, types)
	case "ldmatrix", "stmatrix":
		return matrixRows(s)
	case "mma":
		return products(s, types)
	case "mov":
		return r.move(s, types)
	}
	shape := shapes[s.op]
	if shape == "" || len(types) == 0 {
		return nil
	}
	t := types[0]
	if s.op == "bfind" && len(types) > 0 {
		t = types[len(types)-1]
	}
	if only := onlyTypes[s.op]; only != nil && !slices.Contains(only, t) {
		return fmt.Errorf("not for type %v", t)
	}
	if t.integer() && s.has("rn", "rz", "rm", "rp") {
		return fmt.Errorf("cannot round %v", t)
	}
	if s.has("wide") {
		shape = map[string]string{"mul": "wtt", "mad": "wttw"}[s.op]
	}
	if len(s.args) != len(shape) {
		if s.op == "lop3" || r.file.arch >= 100 { // with a predicate; with three sources
			return nil
		}
		return fmt.Errorf("has %d operands, wants %d", len(s.args), len(shape))
	}
	if k := s.args[0].kind; k == opdImm || k == opdFloat {
		return fmt.Errorf("destination is not a register")
	}
	for i, o := range s.args {
		want := t
		switch shape[i] {
		case 'w':
			want = map[dtype]dtype{tU16: tU32, tS16: tS32, tU32: tU64, tS32: tS64}[t]
			if want == tNone {
				return fmt.Errorf("no type is twice as wide as %v", t)
			}
		case 'u':
			want = tU32
			if s.op == "popc" || s.op == "clz" || s.op == "bfind" {
				want = tB32
			}
		case 'p':
			want = tPred
		case 'k':
			if o.kind == opdReg {
				return fmt.Errorf("operand %d must be a constant", i)
			}
			continue
		}
		if err := r.fits(o, want); err != nil {
			return fmt.Errorf("operand %d: %w", i, err)
		}
	}
	return nil
}

// fits checks an operand that must have a type: in a register of that type and size (.b registers hold any type of their
// size), or a constant of its kind.
func (r *refusal) fits(o operand, t dtype) error {
	switch o.kind {
	case opdReg:
		if reg := r.fn.regs[o.reg]; !compatible(reg, t) {
			return fmt.Errorf("a %v register for %v", reg, t)
		}
	case opdFloat:
		if t.integer() || t == tPred {
			return fmt.Errorf("a floating-point constant for %v", t)
		}
	case opdImm:
		if t == tF32 || t == tF64 {
			return fmt.Errorf("an integer constant for %v", t)
		}
	}
	return nil
}

func compatible(reg, t dtype) bool {
	if reg == tPred || t == tPred {
		return reg == t
	}
	if reg.size() != t.size() {
		return false
	}
	switch {
	case reg == t || reg.bits() || t.bits():
		return true
	case reg.integer() && t.integer():
		return true
	}
	return false
}

// wideEnough is compatible for loads, stores and conversions, whose registers may be wider than the type.
func wideEnough(reg, t dtype) bool {
	if reg == tPred || t == tPred || reg.size() < t.size() {
		return false
	}
	switch {
	case reg.bits():
		return true
	case reg.float():
		return reg.size() == t.size() && (t.bits() || t == reg)
	}
	return !t.float()
}

// access checks ld and st.
func (r *refusal) access(s *stmt, types []dtype) error {
	if len(types) != 1 || len(s.args) < 2 {
		return nil
	}
	t := types[0]
	if t == tPred || t.float() && t != tF32 && t != tF64 {
		return fmt.Errorf("not for type %v", t)
	}
	data, at := s.args[0], s.args[1]
	if s.op == "st" {
		data, at = at, data
	}
	list := []operand{data}
	if data.kind == opdVector {
		list = data.list
	}
	n := 1
	for i, v := range []string{"v2", "v4", "v8"} {
		if s.has(v) {
			n = 2 << i
		}
	}
	switch {
	case len(list) != n:
		return fmt.Errorf("vector of %d elements, wants %d", len(list), n)
	case n*t.size() > 16 && r.file.arch < 100:
		return fmt.Errorf("vector of %d bytes", n*t.size())
	case s.op == "st" && s.has("const"):
		return fmt.Errorf("constant memory cannot be written")
	case s.op == "st" && r.fn.entry && at.kind == opdAddress && len(at.list) > 0 && at.list[0].kind == opdSymbol &&
		slices.ContainsFunc(r.fn.params, func(v *variable) bool { return v.name == at.list[0].name }):
		return fmt.Errorf("a kernel's parameter cannot be written")
	}
	for _, o := range list {
		switch {
		case o.kind != opdReg:
			if err := r.fits(o, t); err != nil {
				return err
			}
		case !wideEnough(r.fn.regs[o.reg], t):
			return fmt.Errorf("a %v register for %v", r.fn.regs[o.reg], t)
		}
	}
	return r.address(s, at)
}

// address checks the register of an address: of the module's address size, but in shared, local and param space.
func (r *refusal) address(s *stmt, o operand) error {
	if o.kind != opdAddress || len(o.list) == 0 || o.list[0].kind != opdReg {
		return nil
	}
	reg := r.fn.regs[o.list[0].reg]
	if reg == tPred || reg.float() {
		return fmt.Errorf("an address in a %v register", reg)
	}
	narrow := false
	for _, m := range s.mods {
		if sp, ok := spaceNames[m]; ok && (sp == spShared || sp == spLocal || sp == spParam) || m == "shared::cluster" {
			narrow = true
		}
	}
	if reg.size() == 4 && !narrow {
		return fmt.Errorf("a 32-bit address, which conflicts with .address_size 64")
	}
	return nil
}

// atomic checks which types the operations of atom and red take (PTX ISA 8.4, section 9.7.12.12 and .13).
func (r *refusal) atomic(s *stmt, types []dtype) error {
	if len(types) != 1 {
		return nil
	}
	t := types[0]
	ok := true
	if s.has("local", "param", "const") {
		return fmt.Errorf("no atomics on this memory")
	}
	n := map[bool]int{true: 2, false: 3}[s.op == "red"]
	if s.has("cas") {
		n++
	}
	if s.has("L2::cache_hint") {
		n++
	}
	if len(s.args) != n {
		return fmt.Errorf("has %d operands, wants %d", len(s.args), n)
	}
	switch {
	case s.has("exch", "cas"):
		if s.op == "red" {
			return fmt.Errorf("has no such operation")
		}
		ok = t == tB32 || t == tB64 || t == tB128 || t == tB16 && s.has("cas")
	case s.has("and", "or", "xor"):
		ok = t == tB32 || t == tB64
	case s.has("inc", "dec"):
		ok = t == tU32
	case s.has("add"):
		ok = t == tU32 || t == tS32 || t == tU64 || t.float() && t != tTF32
	case s.has("min", "max"):
		ok = t == tU32 || t == tS32 || t == tU64 || t == tS64 || t == tF16 || t == tF16x2 || t == tBF16 || t == tBF16x2
	}
	if !ok {
		return fmt.Errorf("the operation is not for type %v", t)
	}
	if s.has("v2", "v4", "v8") {
		return nil
	}
	for i, o := range s.args {
		if o.kind == opdAddress {
			if err := r.address(s, o); err != nil {
				return err
			}
			continue
		}
		if i > 3 || s.has("L2::cache_hint") && i == len(s.args)-1 {
			continue // the policy
		}
		if err := r.fits(o, t); err != nil {
			return fmt.Errorf("operand %d: %w", i, err)
		}
	}
	return nil
}

// barrier checks the numbers that are constants.
func (r *refusal) barrier(s *stmt) error {
	if s.has("warp") && len(s.args) == 1 {
		return r.fits(s.args[0], tB32)
	}
	if s.has("warp", "cluster") || len(s.args) == 0 || s.has("red") {
		return nil
	}
	if s.has("arrive") && len(s.args) < 2 {
		return fmt.Errorf("needs the number of threads")
	}
	for i, o := range s.args {
		switch {
		case o.kind == opdReg && r.fn.regs[o.reg].size() != 4:
			return fmt.Errorf("operand %d: a %v register for u32", i, r.fn.regs[o.reg])
		case o.kind != opdImm:
		case i == 0 && o.imm > 15:
			return fmt.Errorf("there is no barrier %d, only 0 to 15", int64(o.imm))
		case i == 1 && o.imm%lanes != 0:
			return fmt.Errorf("%d threads are not a multiple of the warp size", o.imm)
		}
	}
	return nil
}

// compare checks setp (PTX ISA 8.4, section 9.7.6.2).
func (r *refusal) compare(s *stmt, types []dtype) error {
	if len(types) != 1 || len(s.args) < 3 {
		return nil
	}
	t := types[0]
	unsigned, floating := s.has("lo", "ls", "hi", "hs"), s.has("equ", "neu", "ltu", "leu", "gtu", "geu", "num", "nan")
	order := unsigned || s.has("lt", "le", "gt", "ge")
	if floating && !t.float() || unsigned && (t.float() || t.signed()) || order && t.bits() {
		return fmt.Errorf("the comparison is not for type %v", t)
	}
	for i, o := range s.args {
		want := tPred
		if i == 1 || i == 2 {
			want = t
		}
		list := []operand{o}
		if o.kind == opdPair {
			list = o.list
		}
		for _, e := range list {
			if err := r.fits(e, want); err != nil {
				return fmt.Errorf("operand %d: %w", i, err)
			}
		}
	}
	return nil
}

// convert checks the registers of cvt, which may be wider than its types, and its rounding.
func (r *refusal) convert(s *stmt, types []dtype) error {
	if err := rounded(s, types); err != nil || len(types) != 2 || len(s.args) != 2 {
		return err
	}
	for i, o := range s.args {
		if o.kind == opdReg && !wideEnough(r.fn.regs[o.reg], types[i]) {
			return fmt.Errorf("operand %d: a %v register for %v", i, r.fn.regs[o.reg], types[i])
		}
	}
	return nil
}

// generic checks cvta.
func (r *refusal) generic(s *stmt, types []dtype) error {
	if len(types) != 1 || len(s.args) != 2 {
		return nil
	}
	if types[0] != tU64 {
		return fmt.Errorf("a 32-bit address, which conflicts with .address_size 64")
	}
	for i, o := range s.args {
		if o.kind == opdReg && !compatible(r.fn.regs[o.reg], types[0]) {
			return fmt.Errorf("operand %d: a %v register for %v", i, r.fn.regs[o.reg], types[0])
		}
	}
	return nil
}

// asyncCopySize checks the sizes of cp.async (PTX ISA 8.4, section 9.7.8.24.3).
func asyncCopySize(s *stmt) error {
	switch {
	case !s.has("async") || s.has("bulk", "mbarrier"):
	case s.has("wait_group"):
		if len(s.args) != 1 || s.args[0].kind != opdImm {
			return fmt.Errorf("the number of groups is not a constant")
		}
	case len(s.args) >= 3 && s.args[2].kind == opdImm:
		if n := s.args[2].imm; n != 16 && (s.has("cg") || n != 4 && n != 8) {
			return fmt.Errorf("size %d is not allowed", n)
		}
	}
	return nil
}

// warpwide checks instructions of whole warps, whose values are 32 bits wide, and isspacep.
func (r *refusal) warpwide(s *stmt, types []dtype) error {
	if len(types) == 0 && s.op != "isspacep" || len(s.args) < 2 {
		return nil
	}
	dst, first := tB32, tB32
	switch {
	case s.op == "isspacep":
		dst, first = tPred, tB64
	case s.op == "vote":
		first = tPred
		if !s.has("ballot") {
			dst = tPred
		}
	case s.op == "redux" && types[0] != tU32 && types[0] != tS32 && types[0] != tB32 && r.file.arch < 100:
		return fmt.Errorf("not for type %v", types[0])
	}
	o := s.args[0]
	if o.kind == opdPair {
		o = o.list[0]
	}
	if err := r.fits(o, dst); err != nil {
		return fmt.Errorf("operand 0: %w", err)
	}
	if o := s.args[1]; o.kind == opdReg && s.op != "isspacep" {
		if err := r.fits(o, first); err != nil {
			return fmt.Errorf("operand 1: %w", err)
		}
	}
	return nil
}

// matrixRows checks how many registers ldmatrix and stmatrix move.
func matrixRows(s *stmt) error {
	n := 1
	if s.has("x2") {
		n = 2
	} else if s.has("x4") {
		n = 4
	}
	for _, o := range s.args {
		if o.kind == opdVector && len(o.list) != n && s.has("m8n8") {
			return fmt.Errorf("vector of %d elements, wants %d", len(o.list), n)
		}
	}
	return nil
}

// elementBits are the sizes of mma's element types.
var elementBits = map[string]int{
	"f16": 16, "bf16": 16, "tf32": 32, "f32": 32, "f64": 64, "s8": 8, "u8": 8, "s4": 4, "u4": 4, "b1": 1, "e4m3": 8, "e5m2": 8, "s32": 32,
}

// products checks the layouts of mma and how many registers its fragments take: every lane holds a 32nd of each matrix
// (PTX ISA 8.4, section 9.7.13.4).
func products(s *stmt, _ []dtype) error {
	var m, n, k int
	var types, layouts []string
	for _, mod := range s.mods {
		if _, err := fmt.Sscanf(mod, "m%dn%dk%d", &m, &n, &k); err == nil {
			continue
		}
		switch {
		case elementBits[mod] != 0:
			types = append(types, mod)
		case mod == "row" || mod == "col":
			layouts = append(layouts, mod)
		}
	}
	if m != 16 || s.has("sp") || len(types) != 4 || len(s.args) < 4 {
		return nil // other shapes have rules of their own
	}
	if !slices.Equal(layouts, []string{"row", "col"}) {
		return fmt.Errorf("only .row.col is possible")
	}
	for i, want := range []int{
		m * n * elementBits[types[0]], m * k * elementBits[types[1]], n * k * elementBits[types[2]], m * n * elementBits[types[3]],
	} {
		word := 32
		if types[i] == "f64" {
			word = 64
		}
		if o := s.args[i]; o.kind == opdVector && len(o.list) != want/(lanes*word) {
			return fmt.Errorf("operand %d: vector of %d elements, wants %d", i, len(o.list), want/(lanes*word))
		}
	}
	return nil
}

// rounded checks whether a conversion may and must round (PTX ISA 8.4, section 9.7.9.21).
func rounded(s *stmt, types []dtype) error {
	if len(types) != 2 || s.has("pack") {
		return nil
	}
	to, from := types[0], types[1]
	rounds := s.has("rn", "rz", "rm", "rp", "rna", "rni", "rzi", "rmi", "rpi")
	switch {
	case to.integer() && from.integer() && rounds, to == tF64 && (from == tF32 || from == tF16) && rounds, to == tF32 && from == tF16 && rounds:
		return fmt.Errorf("the conversion is exact and cannot round")
	case to.integer() && from.float() && !s.has("rni", "rzi", "rmi", "rpi"):
		return fmt.Errorf("needs an integer rounding modifier")
	case to.float() && (from.integer() || from.size() > to.size()) && !rounds:
		return fmt.Errorf("needs a rounding modifier")
	}
	return nil
}

// move checks mov: of one value, or of the parts of one.
func (r *refusal) move(s *stmt, types []dtype) error {
	if len(types) != 1 || len(s.args) != 2 || s.has("v2", "v4", "v8") {
		return nil
	}
	t := types[0]
	if k := s.args[0].kind; k == opdImm || k == opdFloat {
		return fmt.Errorf("destination is not a register")
	}
	for i, o := range s.args {
		if o.kind != opdVector {
			if o.kind == opdSymbol && i == 1 {
				continue // an address or a special register
			}
			if err := r.fits(o, t); err != nil {
				return fmt.Errorf("operand %d: %w", i, err)
			}
			continue
		}
		size, each := 0, 0
		for _, e := range o.list {
			if e.kind != opdReg {
				size = t.size()
				break // constants and sinks have the size that is left
			}
			n := r.fn.regs[e.reg].size()
			if each != 0 && n != each {
				return fmt.Errorf("the vector's elements differ in size")
			}
			each = n
			size += n
		}
		if size != t.size() {
			return fmt.Errorf("a vector of %d bytes for %v", size, t)
		}
	}
	return nil
}
