package cli

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/irqbridge/irqbridge/cmd/irqbridge/internal/histogram"
)

// metrics serves what a session counts to Prometheus, at /metrics.
type metrics struct {
	listener net.Listener
	server   *http.Server
	served   chan struct{}
	session  atomic.Pointer[session] // nil before it has begun
}

// serveMetrics listens at an address, host:port; without a host, at 127.0.0.1. Only who names another host is reached from
// outside.
func serveMetrics(address string) (*metrics, error) {
	name, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, usage("--metrics %s: want PORT as in :9100, or HOST:PORT", address)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil {
		return nil, usage("--metrics %s: want a port of 0 to 65535, 0 for any that is free; have %q", address, port)
	} else if name == "" {
		name = "127.0.0.1"
		port = strconv.FormatUint(n, 10)
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(name, port))
	if err != nil {
		return nil, &failure{exitFailed, fmt.Errorf("--metrics %s: %w", address, err), "give another address, or --metrics :0 for any port that is free"}
	}
	m := &metrics{listener: listener, served: make(chan struct{})}
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(m)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	m.server = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		defer close(m.served)
		_ = m.server.Serve(listener) // it ends with close
	}()
	return m, nil
}

// url is where the metrics are.
func (m *metrics) url() string { return fmt.Sprintf("http://%v/metrics", m.listener.Addr()) }

// close ends the serving, and the connections.
func (m *metrics) close() {
	_ = m.server.Close()
	<-m.served
}

// What is served. All have the labels device, kind and message; the two by CPU also cpu.
var (
	metricLabels = []string{"device", "kind", "message"}

	metricCalls = prometheus.NewDesc("irqbridge_interrupt_calls_total",
		"Calls of the service routine, by the CPU that it ran on.", append(metricLabels[:3:3], "cpu"), nil)
	metricDelivered = prometheus.NewDesc("irqbridge_interrupt_delivered_total",
		"Interrupts that the host counted, by the CPU that it delivered to, from /proc/interrupts.", append(metricLabels[:3:3], "cpu"), nil)
	metricClaimed = prometheus.NewDesc("irqbridge_interrupt_claimed_total",
		"Calls of the service routine that found the device's interrupt.", metricLabels, nil)
	metricRaised = prometheus.NewDesc("irqbridge_interrupt_raised_total",
		"How often this program had the interrupt raised.", metricLabels, nil)
	metricServiced = prometheus.NewDesc("irqbridge_interrupt_serviced_total",
		"Interrupts that were raised and serviced.", metricLabels, nil)
	metricWrongCPU = prometheus.NewDesc("irqbridge_interrupt_wrong_cpu_total",
		"Calls of the service routine on a CPU other than those asked for.", metricLabels, nil)
	metricError = prometheus.NewDesc("irqbridge_interrupt_error",
		"1 when something is wrong with the interrupt, such as a storm, else 0.", metricLabels, nil)
	metricLatency = prometheus.NewDesc("irqbridge_interrupt_latency_seconds",
		"Time from the raise to the first instruction of the service routine.", metricLabels, nil)
)

// Describe is prometheus.Collector's.
func (m *metrics) Describe(descriptions chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		metricCalls, metricDelivered, metricClaimed, metricRaised, metricServiced, metricWrongCPU, metricError, metricLatency,
	} {
		descriptions <- d
	}
}

// Collect is prometheus.Collector's. It reads while interrupts go on.
func (m *metrics) Collect(values chan<- prometheus.Metric) {
	s := m.session.Load()
	if s == nil {
		return
	}
	delivered, _ := s.deliveredTo(s.rows)
	for i, r := range s.rows {
		labels := []string{s.device.Address().String(), s.resources.Kind.String(), strconv.Itoa(r.message.Index)}
		count := func(d *prometheus.Desc, n uint64, more ...string) {
			values <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), append(labels[:3:3], more...)...)
		}
		for cpu, n := range r.routine.callsByCPU() {
			count(metricCalls, n, strconv.Itoa(cpu))
		}
		for cpu, n := range delivered[i] {
			count(metricDelivered, n, strconv.Itoa(cpu))
		}
		count(metricClaimed, r.routine.claimed.Load())
		count(metricRaised, r.raised.Load())
		count(metricServiced, r.serviced.Load())
		count(metricWrongCPU, r.routine.wrongCPU.Load())
		wrong := 0.0
		if err := r.interrupt.Err(); err != nil && !errors.Is(err, os.ErrClosed) {
			wrong = 1
		}
		values <- prometheus.MustNewConstMetric(metricError, prometheus.GaugeValue, wrong, labels...)
		if r.latency != nil {
			values <- latencyMetric(r.latency, labels)
		}
	}
}

// latencyMetric is a histogram with a bucket for each power of two of nanoseconds, from 1 µs or so to 1 s.
func latencyMetric(h *histogram.Histogram, labels []string) prometheus.Metric {
	const lowest, highest = 10, 30
	buckets := make(map[float64]uint64, highest-lowest+1)
	for bound := lowest; bound <= highest; bound++ {
		buckets[(time.Duration(1) << bound).Seconds()] = 0
	}
	var count uint64
	for b := range h.Buckets() {
		count += b.Count
		for bound := lowest; bound <= highest; bound++ {
			if limit := time.Duration(1) << bound; b.To <= limit {
				buckets[limit.Seconds()] += b.Count
			}
		}
	}
	return prometheus.MustNewConstHistogram(metricLatency, count, float64(h.SumNS())/1e9, buckets, labels...)
}
