package profile

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"testing"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func resolved(t *testing.T) *jsonschema.Resolved {
	t.Helper()
	var s jsonschema.Schema
	require.NoError(t, json.Unmarshal(Schema, &s))
	r, err := s.Resolve(nil)
	require.NoError(t, err)
	return r
}

func decoded(t *testing.T, text []byte) any {
	t.Helper()
	var v any
	require.NoError(t, json.Unmarshal(text, &v))
	return v
}

// onlyTheReaderKnows are the mistakes that a schema cannot express, or that would make it unreadable.
var onlyTheReaderKnows = regexp.MustCompile(`is not in "registers"|is not a multiple of|does not fit in|is described twice|wants a time of|` +
	`is (read|write) only|is cleared by|has not$|the register has bits|wants the higher bit|, too$|has a name already|has a cause|wants a whole number from 0 to (0|31), `)

// TestTheSchemaAndTheReaderAgree damages good profiles in every place and in every way of a list. What the reader takes, the
// schema takes; and what only the reader refuses, it does for reasons that a schema does not know.
func TestTheSchemaAndTheReaderAgree(t *testing.T) {
	schema := resolved(t)
	both, one, good := 0, 0, 0
	check := func(t *testing.T, what string, root any) {
		t.Helper()
		text, err := json.Marshal(root)
		require.NoError(t, err)
		_, mistakes := Check("f", text)
		refused := schema.Validate(decoded(t, text))
		switch {
		case len(mistakes) == 0:
			good++
			require.NoError(t, refused, "%s: the reader takes it: %s", what, text)
		case refused != nil:
			both++
		default:
			one++
			for _, m := range mistakes {
				require.Regexp(t, onlyTheReaderKnows, m.Text, "%s: the schema takes it: %s", what, text)
			}
		}
	}
	for name, text := range map[string]string{"board": board, "grown": grown} {
		t.Run(name, func(t *testing.T) {
			root := decoded(t, []byte(text))
			check(t, "as it is", root)
			visit(root, "", func(path string, set func(any), now any) {
				for _, v := range []any{
					nil, true, 0, 1, 7, 8, -1, 1.5, 64, 1e10, "", "x", "0x", "0x0", "0x1", "0xg", "0x10000", "0x00000000000000001", "0x10000000000000000", "1:0", "3", "a b", "1.5s",
					"rw", "wo", "msi", "status", "STATUS",
					[]any{},
					[]any{"msi", "msi"},
					map[string]any{},
				} {
					set(v)
					check(t, fmt.Sprintf("%s = %v", path, v), root)
				}
				set(now)
				object, ok := now.(map[string]any)
				if !ok {
					return
				}
				for _, k := range slices.Sorted(maps.Keys(object)) {
					v := object[k]
					delete(object, k)
					check(t, path+" without "+k, root)
					for _, other := range []string{"zzz", "a b", "a.b", "0x1", "", "write", "read", "value"} {
						if _, there := object[other]; !there {
							object[other] = v
							check(t, fmt.Sprintf("%s with %s for %s", path, other, k), root)
							object[k] = v
							check(t, fmt.Sprintf("%s with %s and %s", path, other, k), root)
							delete(object, k)
							delete(object, other)
						}
					}
					object[k] = v
				}
			})
			check(t, "as it was", root)
		})
	}
	for _, p := range Embedded() {
		check(t, p.Name, decoded(t, Source(p.Name)))
	}
	t.Logf("%d refused by both, %d by the reader alone, %d good", both, one, good)
	assert.Greater(t, both, 1000)
	assert.Greater(t, good, 100)
	assert.Less(t, one, both/2)
}

// visit calls f for every value below v, with a function that replaces it.
func visit(v any, path string, f func(path string, set func(any), now any)) {
	switch v := v.(type) {
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(v)) {
			now := v[k]
			f(path+"."+k, func(n any) { v[k] = n }, now)
			visit(now, path+"."+k, f)
		}
	case []any:
		for i, now := range v {
			f(fmt.Sprintf("%s[%d]", path, i), func(n any) { v[i] = n }, now)
			visit(now, fmt.Sprintf("%s[%d]", path, i), f)
		}
	}
}

// TestTheManualShowsTheFormat: the fields that the manual names are those that the schema has.
func TestTheManualShowsTheFormat(t *testing.T) {
	var names []string
	var collect func(v any)
	collect = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if properties, ok := v["properties"].(map[string]any); ok {
				names = slices.AppendSeq(names, maps.Keys(properties))
			}
			for _, inner := range v {
				collect(inner)
			}
		case []any:
			for _, inner := range v {
				collect(inner)
			}
		}
	}
	collect(decoded(t, Schema))
	require.Contains(t, names, "perSecond")
	for _, name := range names {
		assert.Contains(t, Manual(), `"`+name+`"`)
	}
}
