package serve

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// run runs a program until the end of the test and gives back what it says.
func run(t *testing.T, stdin string, argv ...string) string {
	cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return string(out)
}

func TestGrpcurl(t *testing.T) {
	program := os.Getenv("UNIRESTORER_TEST_GRPCURL")
	if program == "" {
		t.Skip("UNIRESTORER_TEST_GRPCURL names no program; make clients-check does")
	}
	_, address := startGRPC(t, model(t), Config{})
	const service = "inference.GRPCInferenceService"
	call := func(request any, method string) string {
		text, err := json.Marshal(request)
		require.NoError(t, err)
		return run(t, string(text), program, "-plaintext", "-d", "@", address, method)
	}
	require.Contains(t, run(t, "", program, "-plaintext", address, "list"), service)
	require.Contains(t, run(t, "", program, "-plaintext", address, "describe", service), "ModelInfer")
	require.Contains(t, call(struct{}{}, "grpc.health.v1.Health/Check"), "SERVING")
	require.Contains(t, call(struct{}{}, service+"/ServerReady"), "true")
	require.Contains(t, call(map[string]any{"name": "unirestorer"}, service+"/ModelMetadata"), "UINT8")

	type object = map[string]any
	file := picture(t, 20, 12)
	var answer struct{ RawOutputContents [][]byte }
	require.NoError(t, json.Unmarshal([]byte(call(object{
		"model_name": "unirestorer",
		"inputs": []object{{"name": "file", "datatype": "BYTES", "shape": []int{1},
			"contents": object{"bytes_contents": []string{base64.StdEncoding.EncodeToString(file)}}}},
		"parameters": object{"format": object{"string_param": "jpeg"}},
	}, service+"/ModelInfer")), &answer))
	require.Len(t, answer.RawOutputContents, 2)
	restored := tensor{tensorInfo: tensorInfo{Name: tensorFile, Datatype: "BYTES"}}
	require.NoError(t, restored.setRaw(answer.RawOutputContents[0]))
	require.Equal(t, "jpeg", formatOf(restored.items[0]))
}

func TestTritonclient(t *testing.T) {
	python := os.Getenv("UNIRESTORER_TEST_TRITONCLIENT")
	if python == "" {
		t.Skip("UNIRESTORER_TEST_TRITONCLIENT names no Python that has the package tritonclient; make clients-check does")
	}
	r := model(t)
	_, url := start(t, r, Config{})
	_, address := startGRPC(t, r, Config{})
	out := run(t, "", python, "testdata/triton.py", strings.TrimPrefix(url, "http://"), address, "../../testdata/photos/rain.png")
	require.Equal(t, 4, strings.Count(out, ": ok"), out)
}
