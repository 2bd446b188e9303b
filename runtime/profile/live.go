package profile

import (
	"unirestorer/graph"
	"unirestorer/runtime/backend"
)

// liveIn fills in how many bytes of a program's arena are alive while each part
// runs, and tells where most are; nil for programs that do not tell.
func liveIn(program backend.Program, parts []Part) *MemoryPeak {
	d, ok := program.(interface{ Plan() *graph.Plan })
	if !ok {
		return nil
	}
	plan := d.Plan()
	peak := &MemoryPeak{}
	node := 0
	for i, nodes := range stepsOf(program) {
		for _, n := range nodes {
			live := plan.Live(n.ID)
			parts[i].Live = max(parts[i].Live, live)
			if live > peak.Bytes {
				peak.Part, peak.Bytes, node = parts[i].Name, live, n.ID
			}
		}
	}
	peak.Holders = plan.Holdings(node)
	return peak
}
