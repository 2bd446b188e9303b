package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestServeRefusesNumbersThatMakeNoSense(t *testing.T) {
	for _, args := range []string{"--queue -1", "--queue 0", "--active -1", "--timeout 0s", "--timeout -1s", "--max-pixels 0", "--drain-delay -1s", "--drain-timeout -1s", "--cache-size 1MiB"} {
		code, _, stderr := command(append([]string{"serve", "--listen", "127.0.0.1:0", "--grpc-listen", "off"}, strings.Fields(args)...)...)
		require.Equal(t, exitUsage, code, args)
		require.Contains(t, stderr, strings.Fields(args)[0])
		require.NotContains(t, stderr, "ready")
	}
	code, _, stderr := command("serve", "--listen", "127.0.0.1:0", "--grpc-listen", "nonsense")
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, "--grpc-listen")
	require.NotContains(t, stderr, "ready", "nothing is said before both are there")
}
