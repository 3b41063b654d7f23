package wire

import (
	"bufio"
	"bytes"
	"compress/flate"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
)

// JobPath is where the guest finds the job.
const JobPath = "/vm/job.json"

// ModulesDir is where the guest finds the kernel modules, to be loaded in the order of their file names.
const ModulesDir = "/vm/modules"

// Job says what the guest shall run, and how.
type Job struct {
	Args []string `json:"args"` // program and arguments; a program without a slash is looked up in PATH
	Dir  string   `json:"dir"`  // working directory
	Env  []string `json:"env"`  // "NAME=value"
	User string   `json:"user"` // name in the guest's /etc/passwd, or a number
	// Output names what the host wants back, files or whole directories, as absolute guest paths. The guest makes the
	// directories (for a file its parent) writable for User before it starts the program.
	Output []Output `json:"output"`
}

// Output is a file or directory that the host wants back.
type Output struct {
	Path string `json:"path"`
	Dir  bool   `json:"dir"`
}

// Result is how the program ended.
type Result struct {
	Status int    `json:"status"` // as a shell has it: the exit status, or 128 and the signal's number
	Signal string `json:"signal"` // the signal that killed it, or empty
	Error  string `json:"error"`  // why the program could not be started, or empty
}

// ReadJob reads the job from a file.
func ReadJob(path string) (*Job, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var job Job
	if err := json.Unmarshal(data, &job); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &job, nil
}

// Kind tells what a frame carries.
type Kind byte

// Frames from the guest.
const (
	Stdout  Kind = 'O' // a piece of the program's standard output
	Stderr  Kind = 'E' // a piece of its standard error
	Archive Kind = 'T' // a piece of the tar archive of Job.Output
	Ack     Kind = 'A' // the last Stdin frame was taken
	Exit    Kind = 'X' // the Result in JSON; the last frame
)

// Frames from the host.
const (
	Stdin  Kind = 'I' // a piece of standard input, at most MaxInput bytes; the next only after an Ack
	EOF    Kind = 'C' // standard input ended
	Signal Kind = 'S' // a signal for the program; the payload is its number in one byte
)

// MaxInput is the largest Stdin frame: with its header it fits into a terminal's input buffer in the kernel.
const MaxInput = 2048

// maxPayload is the largest payload of any frame; a longer one means that the line is garbled.
const maxPayload = 1 << 16

// compressed is set in the kind of a frame whose payload is a DEFLATE stream (RFC 1951).
const compressed = 0x80

// worthwhile is the length from which a payload is compressed if that makes it shorter: the line carries about 350 kB/s.
const worthwhile = 512

// Hello comes before the first frame of the guest.
var Hello = []byte("\nirqbridge guest is up\n")

// Frame is one message.
type Frame struct {
	Kind    Kind
	Payload []byte
}

// Writer sends frames. It is safe for concurrent use.
type Writer struct {
	mu      sync.Mutex
	w       io.Writer
	buf     []byte        // guarded by mu
	deflate *flate.Writer // guarded by mu
	packed  bytes.Buffer  // guarded by mu
}

// NewWriter returns a writer of frames to w.
func NewWriter(w io.Writer) *Writer {
	// The only error there is would be an unknown level.
	deflate, _ := flate.NewWriter(nil, flate.BestSpeed)
	return &Writer{w: w, deflate: deflate}
}

// Send writes the data as frames of the kind, several when it is long, at least one.
func (w *Writer) Send(kind Kind, data []byte) error {
	for {
		n := min(len(data), maxPayload)
		if err := w.send(kind, data[:n]); err != nil {
			return err
		}
		if data = data[n:]; len(data) == 0 {
			return nil
		}
	}
}

func (w *Writer) send(kind Kind, payload []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(payload) >= worthwhile {
		w.packed.Reset()
		w.deflate.Reset(&w.packed)
		// Neither can fail: the destination is memory.
		_, _ = w.deflate.Write(payload)
		_ = w.deflate.Close()
		if w.packed.Len() < len(payload) {
			kind, payload = kind|compressed, w.packed.Bytes()
		}
	}
	w.buf = append(w.buf[:0], byte(kind))
	w.buf = binary.BigEndian.AppendUint32(w.buf, uint32(len(payload)))
	w.buf = append(w.buf, payload...)
	_, err := w.w.Write(w.buf)
	return err
}

// Stream is an io.Writer that sends what is written to it as frames of one kind.
type Stream struct {
	Writer *Writer
	Kind   Kind
}

func (s Stream) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if err := s.Writer.Send(s.Kind, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Reader receives frames.
type Reader struct {
	r *bufio.Reader
}

// NewReader returns a reader of frames from r.
func NewReader(r io.Reader) *Reader { return &Reader{r: bufio.NewReaderSize(r, maxPayload)} }

// WaitHello discards everything up to and including Hello.
func (r *Reader) WaitHello() error {
	var last []byte
	for !bytes.Equal(last, Hello) {
		b, err := r.r.ReadByte()
		if err != nil {
			return err
		}
		if len(last) == len(Hello) {
			last = slices.Delete(last, 0, 1)
		}
		last = append(last, b)
	}
	return nil
}

// Next receives one frame.
func (r *Reader) Next() (Frame, error) {
	var header [5]byte
	if _, err := io.ReadFull(r.r, header[:]); err != nil {
		return Frame{}, err
	}
	n := binary.BigEndian.Uint32(header[1:])
	if n > maxPayload {
		return Frame{}, fmt.Errorf("the serial line is garbled: a frame of kind %q and %d bytes", header[0], n)
	}
	frame := Frame{Kind: Kind(header[0] &^ compressed), Payload: make([]byte, n)}
	if _, err := io.ReadFull(r.r, frame.Payload); err != nil {
		return Frame{}, err
	}
	if header[0]&compressed != 0 {
		var err error
		if frame.Payload, err = io.ReadAll(flate.NewReader(bytes.NewReader(frame.Payload))); err != nil {
			return Frame{}, fmt.Errorf("the serial line is garbled: %w", err)
		}
	}
	return frame, nil
}
