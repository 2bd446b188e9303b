package weightstest

import (
	"os"
	"reflect"
)

// PeakResident is the most memory that a process which has ended had resident, in bytes, as Linux reports it; 0 on systems
// that do not tell.
func PeakResident(p *os.ProcessState) int64 {
	usage := reflect.Indirect(reflect.ValueOf(p.SysUsage()))
	if usage.Kind() != reflect.Struct {
		return 0
	}
	if peak := usage.FieldByName("Maxrss"); peak.IsValid() && peak.CanInt() {
		return peak.Int() << 10
	}
	return 0
}
