package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// registerWidth is how wide lines of registers become.
const registerWidth = 110

// printRegisters prints every field of v in the order of its registers. The labels are the keys of its JSON form, so
// that what is seen here can be asked for by --json. Bits are "name+" when set and "name-" when not, as lspci has them;
// what has fields of its own follows on lines of its own.
func printRegisters(w *output, indent, label string, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		w.printf("%s%s cannot be shown: %v\n", indent, label, err)
		return
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if start, _ := d.Token(); start == json.Delim('{') {
		printObject(w, d, indent, label)
	}
}

// printObject prints the object whose first brace was read. What it has inside comes after its own fields.
func printObject(w *output, d *json.Decoder, indent, label string) {
	var words []string
	var inside bytes.Buffer
	inner := &output{w: &inside}
	for d.More() {
		key, _ := d.Token()
		if word := registerWord(inner, d, indent, label, fmt.Sprint(key)); word != "" {
			words = append(words, word)
		}
	}
	_, _ = d.Token() // the closing brace
	printWords(w, indent, label, words)
	w.printf("%s", inside.String())
}

// registerWord gives the next value as a word, or prints it when it is an object or a list of objects.
func registerWord(inner *output, d *json.Decoder, indent, label, key string) string {
	path := strings.TrimPrefix(label+"."+key, ".")
	value, err := d.Token()
	if err != nil {
		return ""
	}
	switch value {
	case nil:
		return ""
	case json.Delim('{'):
		printObject(inner, d, indent, path)
		return ""
	case json.Delim('['):
		var list []string
		for i := 0; d.More(); i++ {
			if word := registerWord(inner, d, indent, label, fmt.Sprintf("%s[%d]", key, i)); word != "" {
				list = append(list, strings.TrimPrefix(strings.TrimPrefix(word, fmt.Sprintf("%s[%d]", key, i)), "="))
			}
		}
		_, _ = d.Token() // the closing bracket
		if list == nil {
			return ""
		}
		return key + "=" + strings.Join(list, ",")
	case true:
		return key + "+"
	case false:
		return key + "-"
	}
	text := fmt.Sprint(value)
	switch number, isNumber := value.(json.Number); {
	case isNumber && isPlace.MatchString(key):
		if n, err := strconv.ParseUint(number.String(), 10, 64); err == nil {
			text = fmt.Sprintf("0x%x", n)
		}
	case strings.ContainsAny(text, " ") || text == "":
		text = strconv.Quote(text)
	}
	return key + "=" + text
}

// isPlace matches the keys of numbers that people read in hexadecimal.
var isPlace = regexp.MustCompile(`^(offset|regionOffset|length|regionLength)$`)

// printWords prints words in lines of bounded width behind their label. A word that is longer than a line, which is
// bytes in hexadecimal, goes on in the next one.
func printWords(w *output, indent, label string, words []string) {
	if len(words) == 0 {
		return
	}
	if label != "" {
		label += ": "
	}
	next := indent
	if label != "" {
		next += "  "
	}
	line, empty := indent+label, true
	for _, word := range words {
		for {
			room := registerWidth - utf8.RuneCountInString(line)
			switch {
			case len(word) <= room || empty && room < 40:
			case len(word) > registerWidth-len(next) && room > 40:
				w.printf("%s%s\n", line, word[:room])
				word, line, empty = word[room:], next, true
				continue
			case !empty:
				w.printf("%s\n", strings.TrimRight(line, " "))
				line, empty = next, true
				continue
			}
			break
		}
		line, empty = line+word+" ", false
	}
	w.printf("%s\n", strings.TrimRight(line, " "))
}
