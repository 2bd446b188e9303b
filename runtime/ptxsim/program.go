package ptxsim

import "sync"

// instKind says how the interpreter's loop treats an instruction.
type instKind uint8

const (
	kExec        instKind = iota // exec does everything, under w.mask
	k32                          // row operations: the loop writes the active lanes of d
	k64                          //
	kWide                        // 64-bit result of 32-bit sources
	k32x                         // 32-bit result of a 64-bit source
	kSetp32                      // comparisons into predicates
	kSetp64                      //
	kBra                         // branch to target
	kJump                        // unconditional edge the layout added; not an instruction of the program
	kNote                        // something for the checker; not an instruction of the program
	kExit                        // end of thread
	kCall                        // call of a device function
	kRet                         // return from one
	kBarrier                     // may block the warp
	kClusterWait                 // the same, for the barrier of a cluster
	kSync                        // exec after the lanes named in the member mask have arrived
	kTrap                        //
)

// class groups instructions for the counters.
type class uint8

const (
	clInteger class = iota
	clFloat32
	clFloat64
	clHalf
	clSpecial
	clConvert
	clMove
	clPredicate
	clControl
	clGlobalLoad
	clGlobalStore
	clSharedLoad
	clSharedStore
	clLocal
	clParam
	clAsyncCopy
	clTensor
	clMatrixMove
	clShuffle
	clBarrier
	clAtomic
	clOther
	numClasses
)

var classNames = [numClasses]string{
	"integer", "float32", "float64", "half", "special", "convert", "move", "predicate", "control",
	"global_load", "global_store", "shared_load", "shared_store", "local", "param", "async_copy", "tensor",
	"matrix_move", "shuffle", "barrier", "atomic", "other",
}

// inst is one decoded instruction. Operands are indices of rows: of 32-bit rows, 64-bit rows or predicates, as the
// operation wants.
type inst struct {
	kind      instKind
	class     class
	guard     int32 // predicate, -1 without
	guardFlip uint32
	d         int32
	a, b, c   int32
	target    int32 // kBra, kJump, kCall
	mem       int32 // index of memory instructions, for their caches; -1 otherwise
	line      int32
	op32      op32
	op64      op64
	opWide    opWide
	op32x     op32x
	cmp32     cmp32
	cmp64     cmp64
	exec      func(w *warp, in *inst)
	x         *extra
}

// extra holds what few instructions need.
type extra struct {
	text string // opcode with modifiers, for reports
	src  srcPos

	// memory
	space  space
	elem   int     // bytes of one element
	vec    int     // elements
	signed bool    // sign-extend narrow loads
	wide   bool    // data rows are 64-bit
	data   []int32 // rows of the elements; -1 for a sink in loads
	addr64 bool    // address row is 64-bit
	off    int64
	strong bool // volatile, relaxed, acquire, release

	// predicates
	p, q    int32 // destinations, -1 without
	combine byte  // 0, '&', '|', '^'
	cNeg    bool

	// for the critical path: registers, and what orders memory
	uses, defs []int32
	sums, left []int32 // of an asynchronous matrix product: registers of the sums and of the left operand
	async      asyncKind
	fence      bool

	// everything else
	rows      []int32
	n         int
	m         int
	imm       uint32
	mode      string
	typ       dtype
	member    int32 // row of the member mask, kSync
	atom      func(old, b, c uint64) uint64
	cas       bool       // atom writes only where it finds b
	nc        bool       // non-coherent load
	scope     scopeLevel // of a strong access
	bulk      bool       // copy of a run of bytes
	multicast bool       // to several blocks of the cluster, which the third of rows says
	srcWide   bool       // the address row of the source is 64-bit
	wideData  bool       // the rows of data of an asynchronous store are 64-bit
	tensor    *tensor    // of a copy by a tensor map
	texture   *textureOperand
	ownBlock  bool     // shared memory of the block itself only
	within    []extent // shared variables the address is derived from; nil if that is not known
	fn        *funcInfo
	copies    []paramCopy // arguments of a call
	back      []paramCopy // results of a call
	regsIn    []regCopy   // arguments and results in registers
	regsBack  []regCopy
	callees   map[uint64]*callee // of an indirect call, by address
}

// regRow is the row of a register.
type regRow struct {
	row int32
	typ dtype
}

// funcInfo is a function's part of a program.
type funcInfo struct {
	fn      *function
	id      int // among the functions of the program
	address uint64
	start   int32 // index of its first instruction
	retRow  int32 // row that holds every lane's return position

	paramRows, resultRows []regRow // of parameters in registers, in order; -1 for the others
}

// regCopy moves a register's row.
type regCopy struct {
	dst, src int32
	wide     bool
}

// paramCopy moves bytes between two variables of the param space.
type paramCopy struct{ dst, src, n int32 }

// program is a kernel ready to run: its own instructions and those of the functions it calls.
type program struct {
	kernel *function
	mod    *module
	code   []inst
	start  int32

	rows32, rows64, preds int
	const32               []constRow[uint32]
	const64               []constRow[uint64]
	specials              []specialRow

	paramBytes   int // of the launch
	frameBytes   int // param-space variables per lane, after the launch's
	localBytes   int // per lane
	staticShared int // bytes the variables take, as an assembler would lay them out
	dynShared    int // where dynamic shared memory starts in the simulated block memory
	dynAlign     int
	sharedVars   []*variable
	reserved     *variable // one of them: memory of the system's

	writesParam    []int64 // offsets of parameters that writes go through
	writesVar      []string
	writesAnything bool // some write goes through an address of unknown origin

	watched        int // registers whose writes are kept; see unwritten.go
	memInsts       int
	ordered        bool // has atomics on global memory: blocks run one after another
	hasFence       bool
	usesProxy      bool // has mbarriers or bulk copies
	flights        bool // has notes about the registers of asynchronous matrix products
	paramAddresses bool // generic addresses of parameters
	distributed    bool // makes addresses of other blocks' shared memory
	clusterBarrier bool
	cooperates     bool // asks where the workspace of cooperative launches is
	indirect       bool // calls functions by their address
	functions      int
	prints         bool // blocks run one after another, so that what they print is in order
	registers      int  // estimate of the registers a thread needs
	timed          int  // registers of all functions, for timelines

	idleMu sync.Mutex
	idle   []*cluster // of earlier launches
}

// constRow is a row whose lanes all hold one constant.
type constRow[T word] struct {
	row int32
	v   T
}

// specialRow is a row that holds a special register, set when a launch starts or, if it differs between blocks, when
// a block starts.
type specialRow struct {
	row      int32
	wide     bool
	name     string
	perBlock bool
}
