package connect

// CheckOn is what Connect says of the parameters before it looks at the device, on another architecture.
func CheckOn(arch string, p *Parameters) error { return p.check(arch) }

// TakeVectors takes n vectors, as other devices would, and returns how to give them back.
func TakeVectors(n int) (giveBack func()) {
	var taken []uint32
	for range n {
		v, _ := vectors.alloc(1)
		taken = append(taken, v)
	}
	return func() {
		for _, v := range taken {
			vectors.release(v, 1)
		}
	}
}
