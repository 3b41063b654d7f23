package main

import (
	"context"
	"os"

	"github.com/irqbridge/irqbridge/cmd/irqbridge/internal/cli"
)

func main() {
	os.Exit(cli.Main(context.Background(), os.Args[1:], cli.System{
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, IDs: os.Getenv("PCI_IDS"),
	}))
}
