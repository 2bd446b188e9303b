package ptxsim

import "errors"

// errNoOpcode says that PTX has no such instruction, so that no device loads the module.
var errNoOpcode = errors.New("unknown instruction")

// otherOpcodes are PTX's instructions (ISA 8.4) that kernels cannot use here.
var otherOpcodes = map[string]bool{
	"istypep": true, "sured": true,
	"multimem": true, "tensormap": true, "alloca": true, "stacksave": true, "stackrestore": true,
	"vadd": true, "vsub": true, "vabsdiff": true, "vmin": true, "vmax": true, "vshl": true, "vshr": true, "vmad": true, "vset": true,
	"vadd2": true, "vsub2": true, "vavrg2": true, "vabsdiff2": true, "vmin2": true, "vmax2": true, "vset2": true,
	"vadd4": true, "vsub4": true, "vavrg4": true, "vabsdiff4": true, "vmin4": true, "vmax4": true, "vset4": true,
}

// decoders maps opcodes to what translates them.
var decoders = map[string]decodeFunc{
	"add": decArith, "sub": decArith, "mul": decArith, "mad": decArith, "fma": decArith, "div": decArith,
	"mul24": decMul24, "mad24": decMul24,
	"addc": decCarry, "subc": decCarry, "madc": decCarry,
	"rem": decArith, "abs": decArith, "neg": decArith, "min": decArith, "max": decArith, "sad": decArith,
	"copysign": decArith, "rcp": decArith, "sqrt": decArith, "rsqrt": decArith,
	"ex2": decArith, "lg2": decArith, "sin": decArith, "cos": decArith, "tanh": decArith,

	"and": decLogic, "or": decLogic, "xor": decLogic, "not": decLogic, "cnot": decLogic,
	"shl": decShift, "shr": decShift, "shf": decShf, "lop3": decLop3,
	"bfe": decBitField, "bfi": decBitField, "bfind": decBitCount, "clz": decBitCount, "popc": decBitCount, "brev": decBitCount,
	"prmt": decPrmt, "dp4a": decDot, "dp2a": decDot, "szext": decSzext, "bmsk": decBmsk, "fns": decFns,

	"setp": decSetp, "set": decSet, "selp": decSelp, "slct": decSlct, "testp": decTestp,
	"mov": decMov, "cvt": decCvt, "cvta": decCvta, "isspacep": decIsspacep,

	"ld": decLd, "ldu": decLd, "st": decSt, "prefetch": decPrefetch, "prefetchu": decPrefetch,
	"applypriority": decPrefetch, "discard": decPrefetch,
	"atom": decAtom, "red": decAtom, "cp": decCp, "mbarrier": decMbarrier,
	"ldmatrix": decLdmatrix, "stmatrix": decLdmatrix, "movmatrix": decMovmatrix, "mma": decMMA, "wmma": decWmma, "wgmma": decWgmma,

	"tex": decTex, "tld4": decTex, "suld": decSurface, "sust": decSurface, "txq": decTextureQuery, "suq": decTextureQuery,

	"shfl": decShfl, "vote": decVote, "match": decMatch, "redux": decRedux, "elect": decElect, "activemask": decActivemask,
	"bar": decBar, "barrier": decBar, "membar": decFence, "fence": decFence,

	"bra": decBra, "brx": decBrx, "call": decCall, "ret": decExit, "exit": decExit, "trap": decTrap, "brkpt": decTrap,
	"mapa": decMapa, "getctarank": decCtaRank, "createpolicy": decPolicy,
	"nanosleep": decNop, "pmevent": decNop, "setmaxnreg": decSetmaxnreg, "griddepcontrol": decGridDep,
}
