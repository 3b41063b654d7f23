package wire_test

import (
	"bytes"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/irqbridge/irqbridge/scripts/vm/internal/wire"
)

// TestStreamsArriveWhole sends pieces of any size, compressible and not, over one line, and reassembles them by kind.
func TestStreamsArriveWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var line bytes.Buffer
		w := wire.NewWriter(&line)
		sent := map[wire.Kind][]byte{}
		for range rapid.IntRange(0, 5).Draw(t, "pieces") {
			kind := rapid.SampledFrom([]wire.Kind{wire.Stdout, wire.Stderr, wire.Archive}).Draw(t, "kind")
			piece := bytes.Repeat([]byte{'a'}, rapid.IntRange(1, 200_000).Draw(t, "length"))
			if rapid.Bool().Draw(t, "random") {
				random := rand.NewChaCha8([32]byte{byte(len(piece))})
				_, _ = random.Read(piece)
			}
			n, err := wire.Stream{Writer: w, Kind: kind}.Write(piece)
			require.NoError(t, err)
			require.Equal(t, len(piece), n)
			sent[kind] = append(sent[kind], piece...)
		}

		got := map[wire.Kind][]byte{}
		r := wire.NewReader(&line)
		for {
			frame, err := r.Next()
			if err != nil {
				require.ErrorIs(t, err, io.EOF)
				break
			}
			got[frame.Kind] = append(got[frame.Kind], frame.Payload...)
		}
		require.Len(t, got, len(sent))
		for kind, data := range sent {
			require.True(t, bytes.Equal(data, got[kind]), "kind %q", kind)
		}
	})
}

func TestTextIsCompressed(t *testing.T) {
	var line bytes.Buffer
	require.NoError(t, wire.NewWriter(&line).Send(wire.Stdout, bytes.Repeat([]byte("=== RUN TestSomething\n"), 1000)))
	assert.Less(t, line.Len(), 1000)
}

func TestHelloEndsTheNoise(t *testing.T) {
	line := bytes.NewBufferString("\x00\xff noise \nirqbridge guest is \nirqbridge guest is u")
	line.WriteString(string(wire.Hello))
	require.NoError(t, wire.NewWriter(line).Send(wire.Exit, []byte("{}")))

	r := wire.NewReader(line)
	require.NoError(t, r.WaitHello())
	frame, err := r.Next()
	require.NoError(t, err)
	assert.Equal(t, wire.Frame{Kind: wire.Exit, Payload: []byte("{}")}, frame)
}

func TestNoHello(t *testing.T) {
	assert.ErrorIs(t, wire.NewReader(bytes.NewBufferString("Kernel panic")).WaitHello(), io.EOF)
}

func TestGarbledLine(t *testing.T) {
	for name, line := range map[string]string{
		"length":      "O\xff\xff\xff\xff",
		"compression": "\xcf\x00\x00\x00\x04\xff\xff\xff\xff",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := wire.NewReader(bytes.NewBufferString(line)).Next()
			assert.ErrorContains(t, err, "garbled")
		})
	}
}

func TestCutFrame(t *testing.T) {
	_, err := wire.NewReader(bytes.NewBufferString("O\x00\x00\x00\x04ab")).Next()
	assert.ErrorIs(t, err, io.ErrUnexpectedEOF)
}
