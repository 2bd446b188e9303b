package imaging

import "encoding/binary"

// validICC returns a copy of an ICC profile cut to the size in its header, or nil if the header is not one
// (ICC.1:2022, section 7.2).
func validICC(icc []byte) []byte {
	if len(icc) < 132 || string(icc[36:40]) != "acsp" {
		return nil
	}
	n := binary.BigEndian.Uint32(icc)
	if n < 132 || uint64(n) > uint64(len(icc)) {
		return nil
	}
	return append([]byte(nil), icc[:n]...)
}

// iccFor returns the profile if it describes pixels of the given kind, else nil.
func iccFor(icc []byte, grey bool) []byte {
	want := "RGB "
	if grey {
		want = "GRAY"
	}
	if len(icc) < 132 || string(icc[16:20]) != want {
		return nil
	}
	return icc
}
