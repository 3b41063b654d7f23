package profile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A node is one JSON value with the place it stands at. encoding/json alone reports neither the place of an unknown
// field nor a field that is given twice, and those are the two typing errors that a profile meets most.
type node struct {
	offset int // byte offset of the value's first character
	field  string
	value  any // nil, bool, string, json.Number, []*node or []member
}

// A member is one name and value of an object, in file order.
type member struct {
	name   string
	offset int
	value  *node
}

// parseTree reads data as exactly one JSON value. Of a field that is given twice the first value is kept, and repeated
// tells; any other mistake ends it.
func parseTree(file string, data []byte) (root *node, repeated []*Error, err *Error) {
	p := &treeParser{file: file, data: data}
	if i := invalidUTF8(data); i >= 0 {
		return nil, nil, p.errorf(i, "", "not UTF-8 text")
	}
	// The syntax is checked whole first: the token walk below then only ever sees well-formed input.
	if err := json.Unmarshal(data, new(json.RawMessage)); err != nil {
		return nil, nil, p.syntaxError(err)
	}
	p.dec = json.NewDecoder(bytes.NewReader(data))
	p.dec.UseNumber()
	root, err = p.node("")
	return root, p.repeated, err
}

type treeParser struct {
	file     string
	data     []byte
	dec      *json.Decoder
	repeated []*Error
}

func (p *treeParser) node(field string) (*node, *Error) {
	n := &node{offset: p.next(), field: field}
	tok, err := p.dec.Token()
	if err != nil {
		return nil, p.syntaxError(err)
	}
	switch tok {
	case json.Delim('['):
		list := []*node{}
		for p.dec.More() {
			item, err := p.node(fmt.Sprintf("%s[%d]", field, len(list)))
			if err != nil {
				return nil, err
			}
			list = append(list, item)
		}
		n.value = list
	case json.Delim('{'):
		members, err := p.members(field)
		if err != nil {
			return nil, err
		}
		n.value = members
	default:
		n.value = tok
		return n, nil
	}
	if _, err := p.dec.Token(); err != nil { // the closing bracket
		return nil, p.syntaxError(err)
	}
	return n, nil
}

func (p *treeParser) members(field string) ([]member, *Error) {
	list, seen := []member{}, map[string]bool{}
	for p.dec.More() {
		at := p.next()
		tok, err := p.dec.Token()
		if err != nil {
			return nil, p.syntaxError(err)
		}
		name, _ := tok.(string)
		path := join(field, name)
		value, wrong := p.node(path)
		if wrong != nil {
			return nil, wrong
		}
		if seen[name] {
			p.repeated = append(p.repeated, p.errorf(at, path, "given twice"))
			continue
		}
		seen[name] = true
		list = append(list, member{name, at, value})
	}
	return list, nil
}

// next is the offset of the next token: where the last one ended, past the white space and punctuation in between.
func (p *treeParser) next() int {
	i := int(p.dec.InputOffset())
	for i < len(p.data) && strings.IndexByte(" \t\r\n,:", p.data[i]) >= 0 {
		i++
	}
	return i
}

func (p *treeParser) errorf(offset int, field, format string, args ...any) *Error {
	return newError(p.file, p.data, offset, field, fmt.Sprintf(format, args...))
}

// syntaxError puts the place to an error of encoding/json, and says the two commonest causes in words of their own.
func (p *treeParser) syntaxError(err error) *Error {
	var syntax *json.SyntaxError
	if !errors.As(err, &syntax) {
		return p.errorf(len(p.data), "", "not JSON: %v", err)
	}
	at := max(int(syntax.Offset)-1, 0) // Offset counts the bytes read, the last of which is the offender
	text := strings.TrimPrefix(err.Error(), "json: ")
	switch rest := p.data[min(at, len(p.data)):]; {
	case len(bytes.TrimSpace(p.data)) == 0:
		at, text = 0, "the file is empty"
	case text == io.ErrUnexpectedEOF.Error() || text == "unexpected end of JSON input":
		at, text = len(p.data), "the file ends before the value does: a bracket or quotation mark is not closed"
	case strings.HasSuffix(text, "after top-level value"):
		text = "text after the end of the profile"
	case bytes.HasPrefix(rest, []byte("/")) || bytes.HasPrefix(rest, []byte("#")):
		text = "comments are not allowed in JSON"
	case (bytes.HasPrefix(rest, []byte("]")) || bytes.HasPrefix(rest, []byte("}"))) &&
		bytes.HasSuffix(bytes.TrimSpace(p.data[:at]), []byte(",")):
		text = "a comma before the closing bracket is not allowed in JSON"
	}
	return p.errorf(at, "", "%s", text)
}

// join is the path of a field of a field. Names that would not print as they are get quotation marks: they are unknown
// ones, and an error is one line.
func join(field, name string) string {
	if strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		name = strconv.Quote(name)
	}
	if field == "" {
		return name
	}
	return field + "." + name
}

func invalidUTF8(data []byte) int {
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && size == 1 {
			return i
		}
		i += size
	}
	return -1
}

// Error is a mistake in a profile, with its place. It prints as "board.json:12:17: registers.STATUS.offset: …".
type Error struct {
	File   string
	Line   int    // from 1
	Column int    // from 1, in characters
	Field  string // path of the field, such as "registers.STATUS.offset"; empty when the place is in no field
	Text   string
}

func newError(file string, data []byte, offset int, field, text string) *Error {
	before := data[:min(offset, len(data))]
	line := before[bytes.LastIndexByte(before, '\n')+1:]
	return &Error{file, 1 + bytes.Count(before, []byte("\n")), 1 + utf8.RuneCount(line), field, text}
}

func (e *Error) Error() string {
	place := fmt.Sprintf("%s:%d:%d: ", e.File, e.Line, e.Column)
	if e.Field != "" {
		place += e.Field + ": "
	}
	return place + e.Text
}
