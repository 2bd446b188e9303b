package pickle

import (
	"bytes"
	"errors"
	"fmt"
	"math/big"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// allow is a Handler that lets everything pass and records it.
type allow struct{ refuse string }

type called struct {
	fn   Global
	args Tuple
}

func (a allow) Global(g Global) error {
	if g.String() == a.refuse {
		return fmt.Errorf("%s is refused", g)
	}
	return nil
}

func (allow) Call(fn Global, args Tuple) (any, error) {
	if fn.Name == "OrderedDict" {
		return &Dict{}, nil
	}
	return called{fn, args}, nil
}

func (allow) SetState(value, state any) error {
	if _, ok := value.(*Dict); !ok {
		return errors.New("no state wanted")
	}
	return nil
}

func (allow) Persistent(id any) (any, error) { return called{args: Tuple{id}}, nil }

func decode(text string, l Limits) (any, error) {
	return NewDecoder(strings.NewReader(text), int64(len(text)), allow{refuse: "os.system"}, l).Decode()
}

func TestValuesDecode(t *testing.T) {
	long := func(s string) *big.Int {
		v, ok := new(big.Int).SetString(s, 0)
		require.True(t, ok)
		return v
	}
	cases := map[string]struct {
		pickle string
		want   any
	}{
		"none":              {"N.", nil},
		"true":              {"\x88.", true},
		"false":             {"\x89.", false},
		"byte":              {"K\xff.", int64(255)},
		"two bytes":         {"M\xff\xff.", int64(65535)},
		"four bytes":        {"J\xfe\xff\xff\xff.", int64(-2)},
		"long zero":         {"\x8a\x00.", int64(0)},
		"long":              {"\x8a\x05\x00\x00\x00\x00\x01.", int64(1 << 32)},
		"negative long":     {"\x8a\x01\xff.", int64(-1)},
		"eight bytes":       {"\x8a\x08\x00\x00\x00\x00\x00\x00\x00\x80.", int64(-1 << 63)},
		"nine bytes":        {"\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x80\x00.", long("0x8000000000000000")},
		"negative big long": {"\x8a\x09\xff\xff\xff\xff\xff\xff\xff\x7f\xff.", long("-0x8000000000000001")},
		"magic number":      {"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.", long("0x1950a86a20f9469cfc6c")},
		"float":             {"G\x3f\xb9\x99\x99\x99\x99\x99\x9a.", 0.1},
		"text":              {"X\x03\x00\x00\x00a\xc3\xa9.", "aé"},
		"tuples":            {")K\x01\x85K\x02K\x03\x86\x87.", Tuple{Tuple{}, Tuple{int64(1)}, Tuple{int64(2), int64(3)}}},
		"tuple":             {"(K\x01(K\x02tt.", Tuple{int64(1), Tuple{int64(2)}}},
		"three":             {"K\x01K\x02K\x03\x87.", Tuple{int64(1), int64(2), int64(3)}},
		"list":              {"](K\x01K\x02eK\x03a.", &List{[]any{int64(1), int64(2), int64(3)}}},
		"memo":              {"X\x01\x00\x00\x00xq\x07h\x07\x86.", Tuple{"x", "x"}},
		"long memo":         {"X\x01\x00\x00\x00xr\x07\x00\x01\x00j\x07\x00\x01\x00\x86.", Tuple{"x", "x"}},
		"global":            {"ctorch\nFloatStorage\n.", Global{"torch", "FloatStorage"}},
		"call":              {"cm\nf\nK\x01\x85R.", called{Global{"m", "f"}, Tuple{int64(1)}}},
		"persistent":        {"K\x01Q.", called{args: Tuple{int64(1)}}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got, err := decode("\x80\x02"+c.pickle, DefaultLimits)
			require.NoError(t, err)
			require.Equal(t, c.want, got)
		})
	}
}

func TestDictKeepsOrderAndState(t *testing.T) {
	got, err := decode("\x80\x02ccollections\nOrderedDict\n)Rq\x00(X\x01\x00\x00\x00bK\x01K\x05K\x02NK\x03u"+
		"X\x01\x00\x00\x00aK\x04s}X\x09\x00\x00\x00_metadata}sb.", DefaultLimits)
	require.NoError(t, err)
	d := got.(*Dict)
	require.Equal(t, []Entry{{"b", int64(1)}, {int64(5), int64(2)}, {nil, int64(3)}, {"a", int64(4)}}, d.Entries)
	v, ok := d.Get("a")
	require.True(t, ok)
	require.Equal(t, int64(4), v)
	_, ok = d.Get("c")
	require.False(t, ok)
}

func TestHostilePicklesAreErrors(t *testing.T) {
	small := Limits{Bytes: 1 << 16, Text: 100, Values: 1000, Nesting: 50}
	cases := map[string]struct{ pickle, message string }{
		"nothing":              {"", "unexpected EOF"},
		"no protocol":          {"N.", "instead of a protocol version"},
		"protocol 4":           {"\x80\x04N.", "version 4 is not supported"},
		"no stop":              {"\x80\x02N", "unexpected EOF"},
		"empty result":         {"\x80\x02.", "stops with 0 values"},
		"two results":          {"\x80\x02NN.", "stops with 2 values"},
		"open mark":            {"\x80\x02(N.", "1 marks"},
		"refused global":       {"\x80\x02cos\nsystem\nX\x02\x00\x00\x00ls\x85R.", "os.system is refused"},
		"instance":             {"\x80\x02(ios\nsystem\n.", "not an operation that PyTorch writes"},
		"new object of none":   {"\x80\x02NN\x81.", "calls a None"},
		"extension":            {"\x80\x02\x82\x01.", "operation 0x82"},
		"stack global":         {"\x80\x02NN\x93.", "operation 0x93"},
		"call of a value":      {"\x80\x02K\x01)R.", "calls a int"},
		"call with a list":     {"\x80\x02cm\nf\n]R.", "with a list for arguments"},
		"state of a tuple":     {"\x80\x02)}b.", "no state wanted"},
		"huge text":            {"\x80\x02X\xff\xff\xff\xff.", "longer than the limit"},
		"text past the end":    {"\x80\x02X\x40\x00\x00\x00a.", "needs 64 bytes where 2 are left"},
		"text not UTF-8":       {"\x80\x02X\x01\x00\x00\x00\xff.", "not valid UTF-8"},
		"long past the end":    {"\x80\x02\x8a\xff\x01.", "needs 255 bytes"},
		"endless name":         {"\x80\x02c" + strings.Repeat("a", 1000), "longer than 256 bytes"},
		"name not UTF-8":       {"\x80\x02c\xff\nb\n.", "not valid UTF-8"},
		"marks":                {"\x80\x02" + strings.Repeat("(", 1000), "nested deeper than 50"},
		"values":               {"\x80\x02" + strings.Repeat("]", 2000), "more values than a checkpoint needs"},
		"memo":                 {"\x80\x02N" + strings.Repeat("q\x00", 2000), "more values than a checkpoint needs"},
		"recalls":              {"\x80\x02Nq\x00" + strings.Repeat("h\x00", 2000), "more values than a checkpoint needs"},
		"bytes":                {"\x80\x02(" + strings.Repeat("X\x60\x00\x00\x00"+strings.Repeat("a", 96), 700), "longer than the limit of 65536"},
		"missing memo":         {"\x80\x02h\x01.", "nothing is stored under 1"},
		"memo of nothing":      {"\x80\x02q\x01.", "takes a value that is not there"},
		"pop below a mark":     {"\x80\x02N(\x85.", "takes a value that is not there"},
		"no mark":              {"\x80\x02Nt.", "has no mark"},
		"append to a dict":     {"\x80\x02}Na.", "appends to a dict"},
		"item of a list":       {"\x80\x02]NNs.", "sets items of a list"},
		"items below nothing":  {"\x80\x02(NNu.", "takes a value that is not there"},
		"odd items":            {"\x80\x02}(Nu.", "a key has no value"},
		"repeated key":         {"\x80\x02}(X\x01\x00\x00\x00aNX\x01\x00\x00\x00aNu.", `key "a" appears twice`},
		"unhashable key":       {"\x80\x02}]Ns.", "a list can not be a key"},
		"global as key":        {"\x80\x02}cm\nf\nNs.", "can not be a key"},
		"persistent of no one": {"\x80\x02Q.", "takes a value that is not there"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := decode(c.pickle, small)
			require.ErrorContains(t, err, c.message)
		})
	}
}

func TestCyclesAndSharingAreHarmless(t *testing.T) {
	// A list that holds itself.
	got, err := decode("\x80\x02]q\x00h\x00a.", DefaultLimits)
	require.NoError(t, err)
	l := got.(*List)
	require.Same(t, l, l.Items[0])
	// Each tuple holds the one before twice: 2^1000 leaves in a tree, 1000 values here.
	text := "\x80\x02N" + strings.Repeat("q\x00h\x00\x86", 1000) + "."
	_, err = decode(text, DefaultLimits)
	require.NoError(t, err)
	// A dict that is a value of itself, with itself in the error.
	_, err = decode("\x80\x02}q\x00h\x00h\x00s.", DefaultLimits)
	require.ErrorContains(t, err, "a dict can not be a key")
}

func TestPicklesFollowEachOther(t *testing.T) {
	text := "\x80\x02K\x01.\x80\x02]q\x00.\x80\x02h\x00."
	d := NewDecoder(strings.NewReader(text), int64(len(text)), allow{}, DefaultLimits)
	v, err := d.Decode()
	require.NoError(t, err)
	require.Equal(t, int64(1), v)
	require.EqualValues(t, 5, d.Offset())
	v, err = d.Decode()
	require.NoError(t, err)
	require.Equal(t, &List{}, v)
	require.EqualValues(t, 11, d.Offset())
	_, err = d.Decode()
	require.ErrorContains(t, err, "nothing is stored", "each pickle has its own memo")
}

// TestMemoryIsBoundedByInput gives the densest inputs their full limits.
func TestMemoryIsBoundedByInput(t *testing.T) {
	const n = 1 << 20
	for name, unit := range map[string]string{"lists": "]", "dicts": "}", "memo": "q\x00", "tuples": ")", "marks and tuples": "(t"} {
		t.Run(name, func(t *testing.T) {
			text := append([]byte("\x80\x02N"), bytes.Repeat([]byte(unit), n/len(unit))...)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := NewDecoder(bytes.NewReader(text), int64(len(text)), allow{}, DefaultLimits).Decode()
			runtime.ReadMemStats(&after)
			require.Error(t, err)
			require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(300*n))
		})
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte("\x80\x02}q\x00X\x06\x00\x00\x00paramsq\x01ccollections\nOrderedDict\nq\x02)Rq\x03(X\x01\x00\x00\x00a" +
		"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x87tQ" +
		"K\x00(K\x05K\x03t(K\x03K\x01t\x89h\x02)Rt\x85R.us."))
	f.Add([]byte("\x80\x02](K\x01M\xff\xffJ\x00\x00\x00\x00\x8a\x05abcdeG12345678N\x88\x89e."))
	f.Add([]byte("\x80\x02]q\x00h\x00a."))
	small := Limits{Bytes: 1 << 20, Text: 1 << 16, Values: 1 << 16, Nesting: 100}
	f.Fuzz(func(t *testing.T, data []byte) {
		d := NewDecoder(bytes.NewReader(data), int64(len(data)), allow{}, small)
		if _, err := d.Decode(); err != nil && len(err.Error()) > 2000 {
			t.Fatalf("an error of %d bytes", len(err.Error()))
		}
		if d.Offset() > int64(len(data)) {
			t.Fatalf("read %d of %d bytes", d.Offset(), len(data))
		}
	})
}
