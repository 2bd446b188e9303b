package ptxsim

import (
	"fmt"
	"strings"
)

// specialWide lists the special registers and whether they have 64 bits.
var specialWide = map[string]bool{
	"%tid.x": false, "%tid.y": false, "%tid.z": false,
	"%ntid.x": false, "%ntid.y": false, "%ntid.z": false,
	"%ctaid.x": false, "%ctaid.y": false, "%ctaid.z": false,
	"%nctaid.x": false, "%nctaid.y": false, "%nctaid.z": false,
	"%laneid": false, "%warpid": false, "%nwarpid": false, "%smid": false, "%nsmid": false, "%gridid": true,
	"%lanemask_eq": false, "%lanemask_lt": false, "%lanemask_le": false, "%lanemask_gt": false, "%lanemask_ge": false,
	"%clock": false, "%clock_hi": false, "%clock64": true, "%globaltimer": true, "%globaltimer_lo": false,
	"%total_smem_size": false, "%dynamic_smem_size": false, "%is_explicit_cluster": false,
	"%cluster_ctarank": false, "%cluster_nctarank": false, "%envreg1": false, "%envreg2": false,
	"%clusterid.x": false, "%clusterid.y": false, "%clusterid.z": false,
	"%nclusterid.x": false, "%nclusterid.y": false, "%nclusterid.z": false,
	"%cluster_ctaid.x": false, "%cluster_ctaid.y": false, "%cluster_ctaid.z": false,
	"%cluster_nctaid.x": false, "%cluster_nctaid.y": false, "%cluster_nctaid.z": false,
}

// isSpecial reports whether a name looks like a special register.
func isSpecial(name string) bool { return strings.HasPrefix(name, "%") || name == "WARP_SZ" }

// specialReg returns a row that holds the special register. The clocks change while a warp runs and are read by
// movClock; their rows exist only for that.
func (d *decoder) specialReg(name string, wide bool) (int32, error) {
	if name == "WARP_SZ" {
		if wide {
			return d.constant64(lanes), nil
		}
		return d.constant32(lanes), nil
	}
	if strings.HasPrefix(name, "%reserved_smem_offset_") && !wide {
		return d.constant32(d.reservedShared(name)), nil
	}
	isWide, ok := specialWide[name]
	if !ok {
		return 0, fmt.Errorf("unknown register %s", name)
	}
	if isClock(name) {
		return 0, fmt.Errorf("%s can only be moved to a register", name)
	}
	if isWide != wide {
		return 0, fmt.Errorf("%s does not have the width of the operation", name)
	}
	if r, ok := d.special[name]; ok {
		return r, nil
	}
	r := int32(0)
	if wide {
		r = d.newRow64()
	} else {
		r = d.newRow32()
	}
	d.special[name] = r
	d.prog.cooperates = d.prog.cooperates || strings.HasPrefix(name, "%envreg")
	perBlock := name == "%smid" || strings.HasPrefix(name, "%ctaid") || strings.HasPrefix(name, "%cluster")
	d.prog.specials = append(d.prog.specials, specialRow{r, wide, name, perBlock})
	return r, nil
}

// reservedShared is a place in the shared memory that the system keeps for itself (PTX ISA 8.4, section 10.36), where
// cooperative groups of several warps have their barriers. It is zero when a block begins.
func (d *decoder) reservedShared(name string) uint32 {
	v := d.reserved
	switch name {
	case "%reserved_smem_offset_end", "%reserved_smem_offset_cap":
		return uint32(d.varOff[v] + v.size())
	case "%reserved_smem_offset_1":
		return uint32(d.varOff[v] + v.size()/2)
	}
	return uint32(d.varOff[v])
}

// isClock reports whether the register counts time.
func isClock(name string) bool {
	return strings.HasPrefix(name, "%clock") || strings.HasPrefix(name, "%globaltimer")
}

// special returns the value of a special register for one lane of a warp.
func (w *warp) special(name string, lane int) uint64 {
	b := w.blk
	t := uint32(w.id*lanes + lane)
	if base, dim, ok := strings.Cut(name, "."); ok {
		pick := func(x, y, z uint32) uint64 {
			switch dim {
			case "x":
				return uint64(x)
			case "y":
				return uint64(y)
			}
			return uint64(z)
		}
		nt, nb := b.launch.shape.Block, b.launch.shape.Grid
		switch base {
		case "%tid":
			return pick(t%nt.X, t/nt.X%nt.Y, t/nt.X/nt.Y)
		case "%ntid":
			return pick(nt.X, nt.Y, nt.Z)
		case "%ctaid":
			return pick(b.ctaid[0], b.ctaid[1], b.ctaid[2])
		case "%cluster_ctaid", "%cluster_nctaid", "%clusterid", "%nclusterid":
			return pick(b.clusterDims(base))
		default:
			return pick(nb.X, nb.Y, nb.Z)
		}
	}
	l := uint(lane)
	switch name {
	case "%laneid":
		return uint64(lane)
	case "%warpid":
		return uint64(w.id)
	case "%nwarpid":
		return uint64(b.launch.maxWarpsPerSM)
	case "%smid":
		return b.index % uint64(b.launch.sms)
	case "%nsmid":
		return uint64(b.launch.sms)
	case "%lanemask_eq":
		return 1 << l
	case "%lanemask_lt":
		return 1<<l - 1
	case "%lanemask_le":
		return 2<<l - 1
	case "%lanemask_gt":
		return uint64(^uint32(2<<l - 1))
	case "%lanemask_ge":
		return uint64(^uint32(1<<l - 1))
	case "%total_smem_size":
		return uint64(b.launch.prog.staticShared + b.launch.shape.Shared)
	case "%dynamic_smem_size":
		return uint64(b.launch.shape.Shared)
	case "%cluster_nctarank":
		return b.launch.clusterShape().Count()
	case "%cluster_ctarank":
		return uint64(b.clusterRank())
	case "%is_explicit_cluster":
		if b.prog.kernel.cluster != [3]int{} || b.launch.shape.Cluster.X != 0 {
			return 1
		}
	case "%envreg1", "%envreg2": // the two halves of the address that grid barriers of cooperative groups use
		if a := b.launch.workspace; a != nil && name == "%envreg1" {
			return a.base >> 32
		} else if a != nil {
			return a.base & 0xffffffff
		}
	}
	return 0
}
