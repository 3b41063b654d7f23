package host

// Local is the OS of the running kernel, rooted at a directory.
func Local(root string) OS { return newLocal(root) }
