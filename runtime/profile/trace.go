package profile

import (
	"encoding/json"
	"fmt"
	"io"
)

// traceEvent is an event of Chrome's trace format, which Perfetto and
// chrome://tracing open. Times are in microseconds.
type traceEvent struct {
	Name     string         `json:"name"`
	Category string         `json:"cat,omitempty"`
	Phase    string         `json:"ph"`
	Time     float64        `json:"ts"`
	Duration float64        `json:"dur,omitempty"`
	Process  int            `json:"pid"`
	Thread   int            `json:"tid"`
	Args     map[string]any `json:"args,omitempty"`
}

// Threads of a trace's processes.
const (
	nodeThread   = 1
	launchThread = 2
)

// WriteTrace writes the profile as a trace: a process for each network, in it a
// thread of nodes, where nodes were timed, and one of launches, where times of
// launches are predicted. Nodes are laid end to end with their mean times in
// the faster half of the timed runs; launches with their predicted times.
func (p *Profile) WriteTrace(w io.Writer) error {
	var all []traceEvent
	for i := range p.Networks {
		all = append(all, p.Networks[i].trace(i+1, p)...)
	}
	if len(all) == 0 {
		return fmt.Errorf("no node was timed and nothing predicted: there is nothing to trace")
	}
	return writeTrace(w, all, map[string]string{
		"model": p.Model, "device": p.Device.Name + ": " + p.Device.Device, "machine": p.Machine.String(),
	})
}

// WriteTrace writes a load as a trace: a thread a client, with the steps of its
// pictures, and the pictures that wait for one.
func (l *Load) WriteTrace(w io.Writer) error {
	return writeTrace(w, l.events(), map[string]string{"machine": ThisMachine().String()})
}

func writeTrace(w io.Writer, events []traceEvent, about map[string]string) error {
	return json.NewEncoder(w).Encode(struct {
		Events []traceEvent      `json:"traceEvents"`
		Unit   string            `json:"displayTimeUnit"`
		Other  map[string]string `json:"otherData"`
	}{events, "ms", about})
}

func (n *Network) trace(process int, p *Profile) []traceEvent {
	var events []traceEvent
	name := func(what string, thread int, value string) {
		events = append(events, traceEvent{Name: what, Phase: "M", Process: process, Thread: thread, Args: map[string]any{"name": value}})
	}
	timed, predicted := false, false
	var at float64
	for i := range n.Parts {
		part := &n.Parts[i]
		if part.Seconds > 0 {
			timed = true
			r := rates(part.Operations, part.Bytes, part.Seconds, p.Peaks)
			args := map[string]any{
				"kind": part.Kind, "stage": part.Stage, "macs": part.Cost.MACs, "executed_macs": part.Cost.Executed,
				"bytes_moved": part.Bytes, "operations": part.Operations, "gflops": r.Operations / 1e9,
			}
			if !r.Cached {
				args["gbytes_per_s"] = r.Bytes / 1e9
			}
			if part.Nodes != nil {
				nodes := make([]string, len(part.Nodes))
				for k := range nodes {
					nodes[k] = part.Nodes[k].Name
				}
				args["nodes"] = nodes
			}
			events = append(events, traceEvent{
				Name: part.Name, Category: part.Kind, Phase: "X", Time: part.Start * 1e6, Duration: part.Seconds * 1e6,
				Process: process, Thread: nodeThread, Args: args,
			})
		}
		for _, l := range part.Launches {
			if l.Predicted <= 0 {
				continue
			}
			predicted = true
			events = append(events, traceEvent{
				Name: l.Kernel, Category: part.Kind, Phase: "X", Time: at * 1e6, Duration: l.Predicted * 1e6,
				Process: process, Thread: launchThread, Args: map[string]any{
					"node": part.Name, "launch": l.Shape, "bytes_moved": l.Bytes, "operations": l.Operations, "binding": l.Binding,
				},
			})
			at += l.Predicted
		}
	}
	if !timed && !predicted {
		return nil
	}
	name("process_name", 0, fmt.Sprintf("%s (%s) %d×%d×%d", n.label(), n.Architecture, n.Batch, n.Width, n.Height))
	if timed {
		name("thread_name", nodeThread, "nodes, measured on "+p.Device.Name)
	}
	if predicted {
		name("thread_name", launchThread, "launches, least time on "+p.Predicted.Title)
	}
	return events
}
