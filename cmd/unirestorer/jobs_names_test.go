package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/jobs"
)

func TestAJobIsOneLineWhateverItsNameIs(t *testing.T) {
	var out bytes.Buffer
	printJob(&out, &jobs.Record{ID: strings.Repeat("0", 32), State: jobs.Failed, Name: "a\n1234567890ab  done  b\x1b[31m.png", Error: "one\ntwo"})
	require.Equal(t, 1, strings.Count(out.String(), "\n"))
	require.NotContains(t, out.String(), "\x1b")
}
