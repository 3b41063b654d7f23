package profile

import (
	"cmp"
	"embed"
	"fmt"
	"io/fs"
	"slices"
	"sync"
)

//go:embed profiles/*.json
var files embed.FS

// Embedded returns the profiles that are part of the program, by name. They are shared: do not change them.
var Embedded = sync.OnceValue(func() []*Profile {
	names, err := fs.Glob(files, "profiles/*.json")
	if err != nil {
		panic(err) // a malformed pattern, which a constant is not
	}
	var list []*Profile
	for _, name := range names {
		data, err := files.ReadFile(name)
		if err == nil {
			var p *Profile
			if p, err = Parse(name, data); err == nil {
				list = append(list, p)
			}
		}
		if err != nil {
			panic(fmt.Sprintf("the program was built with a bad profile: %v", err)) // a test reads them all
		}
	}
	slices.SortFunc(list, func(a, b *Profile) int { return cmp.Compare(a.Name, b.Name) })
	return list
})

// Source is the file of an embedded profile; nil when there is none of that name.
func Source(name string) []byte {
	data, err := files.ReadFile("profiles/" + name + ".json")
	if err != nil {
		return nil
	}
	return data
}

// ForDevice returns the embedded profile of the device with these ids, nil when there is none.
func ForDevice(id ID) *Profile {
	return find(func(p *Profile) bool { return p.Matches(id) })
}

// Named returns the embedded profile of that name, nil when there is none.
func Named(name string) *Profile {
	return find(func(p *Profile) bool { return p.Name == name })
}

func find(f func(*Profile) bool) *Profile {
	if i := slices.IndexFunc(Embedded(), f); i >= 0 {
		return Embedded()[i]
	}
	return nil
}
