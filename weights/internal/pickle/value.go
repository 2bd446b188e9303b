package pickle

import "fmt"

// A decoded value is one of
//
//	nil        None
//	bool, float64, string
//	int64      integers of at most 64 bits
//	*big.Int   longer integers
//	Tuple, *List, *Dict
//	Global     a name such as torch.FloatStorage; nothing stands behind it
//
//	*Object    a value of a class that the Handler does not know, of which nothing is kept
//
// or what the Handler made of a call or a persistent reference. Values may be shared and may contain themselves, so a
// walk over them must not assume a tree.

// Tuple is a Python tuple.
type Tuple []any

// List is a Python list.
type List struct{ Items []any }

// Global names a class or function. It is never looked up.
type Global struct{ Module, Name string }

// String returns the dotted name.
func (g Global) String() string { return g.Module + "." + g.Name }

// Object stands for a value that is passed over: what it is made of was read and dropped.
type Object struct{ Class Global }

// Dict is a Python dict or OrderedDict: entries in order of insertion.
type Dict struct {
	Entries []Entry
	index   map[any]int // of scalar keys, into Entries
}

// Entry is one key of a Dict with its value.
type Entry struct{ Key, Value any }

// add appends an entry. A pickle made by Python never sets a key twice, so that is refused: readers that keep
// different ones of the two would see different files.
func (d *Dict) add(key, value any) error {
	switch k := key.(type) {
	case nil, bool, int64, float64, string:
		if _, again := d.index[key]; again {
			if name, ok := k.(string); ok {
				return fmt.Errorf("key %q appears twice", name)
			}
			return fmt.Errorf("key %v appears twice", k)
		}
		if d.index == nil {
			d.index = make(map[any]int)
		}
		d.index[key] = len(d.Entries)
	case Tuple:
		// Kept, but not compared with other tuples.
	case *Object:
		return nil // an entry that nobody can ask for
	default:
		return fmt.Errorf("a %s can not be a key", kind(key))
	}
	d.Entries = append(d.Entries, Entry{key, value})
	return nil
}

// Get returns the value under a string key.
func (d *Dict) Get(key string) (any, bool) {
	i, ok := d.index[key]
	if !ok {
		return nil, false
	}
	return d.Entries[i].Value, true
}

// kind names the type of a value for errors; hostile values themselves can be endless.
func kind(v any) string {
	switch v := v.(type) {
	case nil:
		return "None"
	case bool:
		return "bool"
	case int64:
		return "int"
	case float64:
		return "float"
	case string:
		return "str"
	case Tuple:
		return "tuple"
	case *List:
		return "list"
	case *Dict:
		return "dict"
	case Global:
		return "global " + v.String()
	case *Object:
		return v.Class.String()
	default:
		return fmt.Sprintf("%T", v)
	}
}
