package ptxsim

import "unirestorer/runtime/device"

// clusterShape returns the blocks of a cluster; one where the kernel does not ask for more.
func (l *launch) clusterShape() device.Dim3 {
	c := l.prog.kernel.cluster
	return device.Dim3{X: uint32(max(1, c[0])), Y: uint32(max(1, c[1])), Z: uint32(max(1, c[2]))}
}

// clusterDims returns a special register with three components.
func (b *block) clusterDims(name string) (x, y, z uint32) {
	c, g := b.launch.clusterShape(), b.launch.shape.Grid
	switch name {
	case "%cluster_nctaid":
		return c.X, c.Y, c.Z
	case "%cluster_ctaid":
		return b.ctaid[0] % c.X, b.ctaid[1] % c.Y, b.ctaid[2] % c.Z
	case "%clusterid":
		return b.ctaid[0] / c.X, b.ctaid[1] / c.Y, b.ctaid[2] / c.Z
	}
	return g.X / c.X, g.Y / c.Y, g.Z / c.Z
}

// clusterRank is the block's number in its cluster.
func (b *block) clusterRank() uint32 {
	c := b.launch.clusterShape()
	x, y, z := b.clusterDims("%cluster_ctaid")
	return x + c.X*(y+c.Y*z)
}
