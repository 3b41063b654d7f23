package host

import (
	"io/fs"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMemoryLock(t *testing.T) {
	tr := newTree(t)
	_, _, err := tr.host().MemoryLock()
	require.ErrorIs(t, err, fs.ErrNotExist)

	limits := func(soft string) {
		tr.file("/proc/self/limits", "Limit                     Soft Limit           Hard Limit           Units     \n"+
			"Max processes             7823                 7823                 processes \n"+
			"Max locked memory         "+soft+"              8388608              bytes     \n")
	}
	limits("65536")
	bytes, limited, err := tr.host().MemoryLock()
	require.NoError(t, err)
	assert.True(t, limited)
	assert.EqualValues(t, 65536, bytes)

	tr.file("/proc/self/status", "Name:\tx\nCapEff:\t0000000000004000\n") // CAP_IPC_LOCK
	_, limited, err = tr.host().MemoryLock()
	require.NoError(t, err)
	assert.False(t, limited)

	tr.file("/proc/self/status", "Name:\tx\nCapEff:\t000001ffffffbfff\n") // all but that
	limits("unlimited")
	_, limited, err = tr.host().MemoryLock()
	require.NoError(t, err)
	assert.False(t, limited)
	limits("nonsense")
	_, _, err = tr.host().MemoryLock()
	require.Error(t, err)
	tr.file("/proc/self/limits", "nothing\n")
	_, _, err = tr.host().MemoryLock()
	require.ErrorContains(t, err, "there is no line for it")
}
