package main

import (
	"debug/dwarf"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// golden is the content of one file in testdata/abi.
type golden struct {
	Kernel    string            `json:"kernel"`    // version of the headers, "6.1"
	Constants map[string]int64  `json:"constants"` // by the C name
	Structs   map[string]layout `json:"structs"`   // by the C tag
}

type layout struct {
	Size   int64            `json:"size"`
	Fields map[string]field `json:"fields"`
}

type field struct {
	Offset int64 `json:"offset"`
	Size   int64 `json:"size"` // 0 for a flexible array
}

// add enters the fields of a structure that starts at an offset; those of a union without a name as its own.
func (l layout) add(typ *dwarf.StructType, start int64) {
	for _, f := range typ.Field {
		inner, ok := f.Type.(*dwarf.StructType)
		if f.Name == "" && ok {
			l.add(inner, start+f.ByteOffset)
			continue
		}
		l.Fields[f.Name] = field{Offset: start + f.ByteOffset, Size: max(0, f.Type.Size())}
	}
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: abi OBJECT-FILE")
		os.Exit(2)
	}
	if err := dump(os.Args[1], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "abi:", err)
		os.Exit(1)
	}
}

// dump writes what the variables of an object file tell: those of a structure its layout, the one of the enum its
// constants.
func dump(object string, w io.Writer) error {
	file, err := elf.Open(object)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	data, err := file.DWARF()
	if err != nil {
		return err
	}
	g := golden{Constants: map[string]int64{}, Structs: map[string]layout{}}
	for r := data.Reader(); ; {
		entry, err := r.Next()
		if err != nil {
			return err
		}
		if entry == nil {
			break
		}
		offset, ok := entry.Val(dwarf.AttrType).(dwarf.Offset)
		if entry.Tag != dwarf.TagVariable || !ok {
			continue
		}
		typ, err := data.Type(offset)
		if err != nil {
			return err
		}
		switch typ := typ.(type) {
		case *dwarf.EnumType:
			for _, v := range typ.Val {
				g.Constants[strings.TrimPrefix(v.Name, "K_")] = v.Val
			}
		case *dwarf.StructType:
			l := layout{Size: typ.ByteSize, Fields: map[string]field{}}
			l.add(typ, 0)
			g.Structs[typ.StructName] = l
		}
	}
	major, ok := g.Constants["LINUX_VERSION_MAJOR"]
	if !ok || len(g.Structs) == 0 {
		return errors.New(object + " was not compiled from a file of scripts/abi/c with -g")
	}
	g.Kernel = fmt.Sprintf("%d.%d", major, g.Constants["LINUX_VERSION_PATCHLEVEL"])
	delete(g.Constants, "LINUX_VERSION_MAJOR")
	delete(g.Constants, "LINUX_VERSION_PATCHLEVEL")
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "\t")
	return encoder.Encode(g)
}
