package ptxsim

// file is a parsed PTX module.
type file struct {
	version string
	target  string // "sm_80"
	arch    int    // 80
	vars    []*variable
	funcs   []*function
	sources map[int]string // .file index to path
	aliases map[string]string
}

// function is a kernel (.entry) or a device function (.func).
type function struct {
	name    string
	entry   bool
	defined bool // has a body
	params  []*variable
	rets    []*variable
	vars    []*variable // shared, local and param variables of the body
	regs    []dtype     // type of every register the body names
	body    []stmt

	regParams []int32 // parameters in registers
	refused   error   // uses what is not supported
	root      *scope
	line      int

	maxntid, reqntid [3]int // 0 where not given
	maxnreg          int
	cluster          [3]int // blocks of a cluster; 0 where not given
	explicitCluster  bool
	maxClusterRank   int // 0 where not given
}

// variable is a named piece of memory.
type variable struct {
	name   string
	space  space
	typ    dtype
	align  int
	count  int64 // elements; 1 for scalars
	extern bool
	flex   bool // "name[]": size comes from elsewhere
	init   []initValue
	line   int
	off    int64 // place in its space; set by layout
	reg    int32 // of a parameter in a register, from 1; else 0
}

func (v *variable) size() int64 { return int64(v.typ.size()) * v.count }

// initValue is one element of an initialiser: a constant, or the address of a variable plus a constant.
type initValue struct {
	bits    uint64
	symbol  string
	generic bool
}

// label is a branch target.
type label struct {
	name string
	pos  int // statement index
	line int

	targets []string   // of a .branchtargets or .calltargets list, which is no place in the code
	proto   *prototype // of a .callprototype
}

// regRange is a declaration such as .reg .b32 %r<14>.
type regRange struct {
	prefix string
	count  int64
	typ    dtype
}

// scope is one pair of braces in a function body.
type scope struct {
	parent *scope
	ranges []regRange
	regs   map[string]int32
	labels map[string]*label
	vars   map[string]*variable
}

func newScope(parent *scope) *scope {
	return &scope{parent: parent, regs: map[string]int32{}, labels: map[string]*label{}, vars: map[string]*variable{}}
}

// operandKind tells operands apart.
type operandKind uint8

const (
	opdReg     operandKind = iota // register, in reg
	opdImm                        // integer constant, in imm
	opdFloat                      // floating-point constant, bits in imm (64 bit if wide)
	opdSymbol                     // label, variable, function or special register, in name
	opdAddress                    // [base+off]
	opdVector                     // {a,b,...}
	opdList                       // (a,b) of a call
	opdPair                       // a|b
	opdSink                       // _
)

// operand is one operand of an instruction as written.
type operand struct {
	kind operandKind
	reg  int32
	name string
	imm  uint64
	wide bool // opdFloat: imm holds a float64, else a float32
	neg  bool // "!p" (predicate) or "-x" (symbolic)
	off  int64
	list []operand // opdVector, opdList, opdPair; opdAddress: its base (and coordinates) in list[0..]
}

// stmt is one instruction.
type stmt struct {
	op       string   // "ld"
	mods     []string // "global", "v4", "u32"
	args     []operand
	guard    int32 // register, -1 without
	guardNot bool
	line     int
	src      srcPos
	scope    *scope
}

// srcPos is a position in the source the PTX was made from, as .loc gives it; line 0 means none.
type srcPos struct {
	file, line     int
	atFile, atLine int // where that code was inlined
}
