package unirestorer

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// number is the version that CHANGELOG.md describes first.
const number = "0.2.0"

// Version is the package's version with what is known of the build: commit, Go and platform.
func Version() string {
	commit := ""
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Path == "unirestorer" {
		dirty := ""
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision":
				commit = "commit " + s.Value[:min(12, len(s.Value))]
			case s.Key == "vcs.modified" && s.Value == "true":
				dirty = " with changes"
			}
		}
		if commit != "" {
			commit += dirty + ", "
		}
	}
	return fmt.Sprintf("%s (%s%s, %s/%s)", number, commit, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
