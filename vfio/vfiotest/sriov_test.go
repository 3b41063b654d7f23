package vfiotest_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio"
	"github.com/irqbridge/irqbridge/vfio/internal/uapi"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// openWithToken opens a device that is bound to vfio-pci, with a VF token or nil, and returns what the kernel says to that.
func openWithToken(t *testing.T, m *vfiotest.Machine, mode iommuMode, a pci.Address, token *vfio.VFToken) (*raw, error) {
	t.Helper()
	r := newRaw(t, m, a)
	if mode.backend == vfio.BackendIOMMUFD {
		r.container = openIOMMUFD(t, m)
		r.device = openNode(t, m, a)
		bind := uapi.DeviceBindIOMMUFD{Iommufd: int32(r.container)}
		if token != nil {
			bind.Flags = uapi.DeviceBindFlagToken
		}
		return r, r.k.DeviceBindIOMMUFD(r.device, sized(bind), (*[16]byte)(token))
	}
	d, err := m.Host.Device(a)
	require.NoError(t, err)
	r.container, err = r.k.Open("/dev/vfio/vfio")
	require.NoError(t, err)
	r.group = openGroup(t, m, d.Group)
	require.NoError(t, r.k.GroupSetContainer(r.group, r.container))
	driver := uapi.Type1v2IOMMU
	if mode.name == "vfio_type1_iommu" {
		driver = uapi.Type1IOMMU
	}
	require.NoError(t, r.k.SetIOMMU(r.container, driver))
	name := a.String()
	if token != nil {
		name += " vf_token=" + token.String()
	}
	r.device, err = r.k.GroupGetDeviceFD(r.group, name)
	return r, err
}

// setToken sets the token of a physical function.
func (r *raw) setToken(token vfio.VFToken) error {
	_, err := r.feature(uapi.FeaturePCIVFToken|uapi.FeatureSet, token[:]...)
	return err
}

// A virtual function can be opened only with the token of the physical function, which is the one that was given with its last
// open, or set since, and stays when it is closed.
func TestVFToken(t *testing.T) {
	first, second := vfio.VFToken{0x52, 0xac, 15: 0x97}, vfio.VFToken{0x88, 0x59, 15: 0x8a}
	inEachMode(t, func(t *testing.T, m *vfiotest.Machine, mode iommuMode) {
		vf := m.VirtualFunctions(t, 1)[0]
		for name, prepare := range map[string]func(t *testing.T, pf *raw) vfio.VFToken{
			"init_token_match": func(*testing.T, *raw) vfio.VFToken { return first },
			"pf_early_close": func(_ *testing.T, pf *raw) vfio.VFToken {
				pf.close()
				return first
			},
			"override_token": func(t *testing.T, pf *raw) vfio.VFToken {
				t.Helper()
				require.NoError(t, pf.setToken(second))
				return second
			},
		} {
			for variant, token := range map[string]*vfio.VFToken{"same_uuid": &first, "diff_uuid": &second, "null_uuid": nil} {
				t.Run(name+"/"+variant, func(t *testing.T) {
					pf, err := openWithToken(t, m, mode, m.PF, &first)
					require.NoError(t, err)
					valid := prepare(t, pf)
					r, err := openWithToken(t, m, mode, vf, token)
					if token != nil && *token == valid {
						require.NoError(t, err)
						assert.Equal(t, "ok", errno(pfOpens(t, m, mode, pf, &valid)), "the physical function with the token that is in use")
						assert.Equal(t, "EACCES", errno(pfOpens(t, m, mode, pf, nil)), "without it")
					} else {
						assert.Equal(t, "EACCES", errno(err))
					}
					r.close()
				})
			}
		}
	})
}

// pfOpens opens the physical function, which is closed before if it is open, with a token.
func pfOpens(t *testing.T, m *vfiotest.Machine, mode iommuMode, pf *raw, token *vfio.VFToken) error {
	t.Helper()
	pf.close()
	again, err := openWithToken(t, m, mode, m.PF, token)
	again.close()
	return err
}

// A token for what has no use for one, and what FEATURE says to one.
func TestVFTokenIsRefused(t *testing.T) {
	inEachMode(t, func(t *testing.T, m *vfiotest.Machine, mode iommuMode) {
		m.Bind(t, m.EDU)
		r, err := openWithToken(t, m, mode, m.EDU, &vfio.VFToken{1})
		assert.Equal(t, "EINVAL", errno(err))
		r.close()
		r, err = openWithToken(t, m, mode, m.EDU, nil)
		require.NoError(t, err)
		assert.Equal(t, "ENOTTY", errno(r.setToken(vfio.VFToken{1})))
	})
	inEachMode(t, func(t *testing.T, m *vfiotest.Machine, mode iommuMode) {
		vf := m.VirtualFunctions(t, 1)[0]
		token := vfio.VFToken{1}
		pf, err := openWithToken(t, m, mode, m.PF, &token)
		require.NoError(t, err)
		_, err = pf.feature(uapi.FeaturePCIVFToken | uapi.FeatureGet)
		assert.Equal(t, "EINVAL", errno(err), "it cannot be got")
		_, err = pf.feature(uapi.FeaturePCIVFToken|uapi.FeatureSet, token[:15]...)
		assert.Equal(t, "EINVAL", errno(err), "too short")
		_, err = pf.feature(uapi.FeaturePCIVFToken|uapi.FeatureSet|uapi.FeatureProbe, token[:15]...)
		assert.Equal(t, "ok", errno(err))
		r, err := openWithToken(t, m, mode, vf, &token)
		require.NoError(t, err)
		assert.Equal(t, "ENOTTY", errno(r.setToken(token)), "a virtual function has none")
		if pf.group >= 0 {
			assert.Equal(t, "EINVAL", errno(pf.hotReset(pf.group)))
			assert.Equal(t, "EINVAL", errno(pf.hotReset(pf.group, r.group)), "no bus is reset with virtual functions on it")
			assert.Equal(t, "EINVAL", errno(r.hotReset(pf.group, r.group)))
		}
	})
}
