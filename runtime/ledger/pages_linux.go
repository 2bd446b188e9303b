package ledger

import "golang.org/x/sys/unix"

// adviseHuge asks for huge pages. It is about speed alone, so it does not matter
// whether the system follows.
func adviseHuge(data []byte) { _ = unix.Madvise(data, unix.MADV_HUGEPAGE) }
