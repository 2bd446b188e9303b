package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestIsolatedRestoreEqualsPlain(t *testing.T) {
	dir := t.TempDir()
	in := filepath.Join(dir, "in")
	require.NoError(t, os.Mkdir(in, 0o777))
	picture, err := os.ReadFile(photo(0))
	require.NoError(t, err)
	for _, name := range []string{"a.png", "b.png", "c.png"} {
		require.NoError(t, os.WriteFile(filepath.Join(in, name), picture, 0o666))
	}
	require.NoError(t, os.WriteFile(filepath.Join(in, "bad.png"), []byte("no picture"), 0o666))
	run := func(out string, args ...string) string {
		cmd := exec.Command(os.Args[0], append([]string{"restore", in, "-o", filepath.Join(dir, out), "-k", "rain", "-k", "snow", "--tile", "64"}, args...)...)
		cmd.Env = append(os.Environ(), runAsCommand+"=1")
		text, err := cmd.CombinedOutput()
		require.Error(t, err, "one picture is damaged")
		require.Contains(t, string(text), "1 of 4 images failed", "%s", text)
		require.Contains(t, string(text), "bad.png", "%s", text)
		return string(text)
	}
	run("plain")
	said := run("isolated", "--isolate")
	require.Contains(t, said, "[cpu] ")
	require.NotContains(t, said, "workers broke")
	for _, name := range []string{"a.png", "b.png", "c.png"} {
		want, err := os.ReadFile(filepath.Join(dir, "plain", name))
		require.NoError(t, err)
		got, err := os.ReadFile(filepath.Join(dir, "isolated", name))
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
}

func TestIsolationAndItsLimits(t *testing.T) {
	in := photo(0)
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"restore", "-", "-o", "x.png", "--isolate"}, exitUsage, "--isolate works on files"},
		{[]string{"restore", in, "-o", "x.png", "--isolate", "--watchdog", "0s"}, exitUsage, "--watchdog 0s: want more than 0"},
		{[]string{"restore", in, "-o", "x.png", "--isolate", "--expert", "99"}, exitUsage, "expert 99"},
		{[]string{"worker"}, exitUsage, "worker is for restore and serve with --isolate to start"},
	} {
		code, _, stderr := command(c.args...)
		require.Equal(t, c.code, code, "%v: %s", c.args, stderr)
		require.Contains(t, stderr, c.want)
	}
}
