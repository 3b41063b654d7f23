package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// identity is whom the program runs as.
type identity struct {
	name     string
	uid, gid uint32
	home     string
}

// lookUp finds a user by name in /etc/passwd, or takes a number, which is then the group's number too.
func lookUp(user string) (identity, error) {
	if n, err := strconv.ParseUint(user, 10, 32); err == nil {
		return identity{name: user, uid: uint32(n), gid: uint32(n), home: "/tmp"}, nil
	}
	data, err := os.ReadFile("/etc/passwd")
	if err != nil {
		return identity{}, err
	}
	var names []string
	for line := range strings.Lines(string(data)) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if len(f) < 6 {
			continue
		}
		names = append(names, f[0])
		if f[0] != user {
			continue
		}
		uid, uidErr := strconv.ParseUint(f[2], 10, 32)
		gid, gidErr := strconv.ParseUint(f[3], 10, 32)
		if uidErr != nil || gidErr != nil {
			return identity{}, fmt.Errorf("/etc/passwd: %q", line)
		}
		return identity{name: user, uid: uint32(uid), gid: uint32(gid), home: f[5]}, nil
	}
	return identity{}, fmt.Errorf("the guest has no user %q: it has %s; or give a number", user, strings.Join(names, ", "))
}
