package main

// variant is one way to wait for an eventfd.
type variant struct {
	name    string
	program string   // of the peers; "" for this program
	args    []string // that choose it in its program
	drains  bool     // it reads the eventfds, so that what it read is all that was signalled
	stays   bool     // it never sleeps
}

const goRead = "go read"

// The variants. What they do is in c, in receiver.go and, for those of irqbridge, in the documentation of package connect.
var (
	cRead    = variant{name: "C read", program: "plain", args: []string{"read"}, drains: true}
	cEpoll   = variant{name: "C epoll", program: "plain", args: []string{"epoll"}, drains: true}
	cEpollET = variant{name: "C epoll-ET", program: "plain", args: []string{"epollet"}}
	cBusy    = variant{name: "C busy epoll", program: "plain", args: []string{"busy"}, stays: true}
	cHybrid  = variant{name: "C hybrid", program: "plain", args: []string{"hybrid"}}
	dpdkEXT  = variant{name: "DPDK EXT", program: "dpdk", args: []string{"ext"}, drains: true}
	dpdkMSIX = variant{name: "DPDK VFIO_MSIX", program: "dpdk", args: []string{"msix"}}
	libuv    = variant{name: "libuv", program: "uv", args: []string{"poll"}, drains: true}
	readInGo = variant{name: goRead, args: []string{goRead}}

	block       = variant{name: "irqbridge block", args: []string{"block"}}
	cooperative = variant{name: "irqbridge cooperative", args: []string{"cooperative"}}
	hybrid      = variant{name: "irqbridge hybrid", args: []string{"hybrid"}}
	poll        = variant{name: "irqbridge poll", args: []string{"poll"}, stays: true}
)

// inGo tells whether the variant is a receiver of this program.
func (v variant) inGo() bool { return v.program == "" }
