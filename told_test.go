package unirestorer

import (
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// An option that another process would not be told of would be passed over there without a word.
func TestAnotherProcessIsToldOfEveryOption(t *testing.T) {
	own, told := reflect.TypeFor[call](), reflect.TypeFor[toldCall]()
	for i := range own.NumField() {
		name := own.Field(i).Name
		if name == "stdin" || name == "stdout" {
			continue
		}
		_, found := told.FieldByName(strings.ToUpper(name[:1]) + name[1:])
		require.True(t, found, name)
	}

	c := call{level: "fine", expert: "3", granularity: "quality", degradations: []string{"rain", "snow"}}
	strength := 0.5
	c.file.Strength, c.file.Tile, c.file.NoGuard, c.file.Page, c.file.Encode.Quality = &strength, 32, true, 2, 80
	c.file.Limits.MaxPixels, c.file.Limits.Strict, c.ask.Client, c.ask.Priority = 99, true, "me", -2
	text, err := MarshalCall(func(to *call) error { *to = c; return nil })
	require.NoError(t, err)
	got, err := callOf([]CallOption{WithMarshalled(text)})
	require.NoError(t, err)
	require.Equal(t, c, got)
}
