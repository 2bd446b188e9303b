package cuda

import (
	"fmt"
	"strconv"
	"strings"

	"unirestorer/runtime/device"
)

// Choose returns the position in infos that selector names: "" for the first device, an index as List counts them,
// or the UUID of a GPU or MIG slice, of which any unambiguous beginning will do, with or without "GPU-" or "MIG-";
// "cuda:" may stand in front.
func Choose(infos []device.Info, selector string) (int, error) {
	want := strings.ToLower(strings.TrimSpace(selector))
	if want == "cuda" {
		want = ""
	}
	want = strings.TrimPrefix(want, "cuda:")
	if want == "" {
		if len(infos) == 0 {
			return 0, ErrNoDevice
		}
		return 0, nil
	}
	if index, err := strconv.Atoi(want); err == nil && len(want) < 4 {
		for at, info := range infos {
			if info.Index == index {
				return at, nil
			}
		}
		return 0, fmt.Errorf("no GPU %d; there are %s", index, enumerate(infos))
	}

	found, matches := 0, 0
	for at, info := range infos {
		uuid := strings.ToLower(info.UUID)
		if strings.HasPrefix(uuid, want) || strings.HasPrefix(bare(uuid), want) {
			found, matches = at, matches+1
		}
	}
	switch matches {
	case 0:
		return 0, fmt.Errorf("no GPU has the UUID %q; there are %s", selector, enumerate(infos))
	case 1:
		return found, nil
	}
	return 0, fmt.Errorf("%d GPUs have a UUID that begins with %q; there are %s", matches, selector, enumerate(infos))
}

// bare is a UUID without what says whether it is of a GPU or of a MIG slice.
func bare(uuid string) string {
	return strings.TrimPrefix(strings.TrimPrefix(uuid, "gpu-"), "mig-")
}

// enumerate lists devices for an error message.
func enumerate(infos []device.Info) string {
	if len(infos) == 0 {
		return "none"
	}
	names := make([]string, len(infos))
	for i, info := range infos {
		names[i] = fmt.Sprintf("%d (%s, %s)", info.Index, info.Name, info.UUID)
	}
	return strings.Join(names, ", ")
}
