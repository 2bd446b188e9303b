//go:build unix && !linux

package ledger

func adviseHuge([]byte) {}
