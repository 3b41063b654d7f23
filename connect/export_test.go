package connect

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
