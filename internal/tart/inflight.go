package tart

import (
	"sync"
	"time"
)

// inFlight counts a client's calls that have not ended yet.
type inFlight struct {
	mu   sync.Mutex
	n    int
	none chan struct{} // closed when n is 0 again
}

// begin counts a call until the returned function is called.
func (f *inFlight) begin() (end func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.n == 0 {
		f.none = make(chan struct{})
	}
	f.n++
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.n--; f.n == 0 {
			close(f.none)
		}
	}
}

// Settle waits until all calls of the client have ended, and tells whether they have in time. It is for a process that ends after the contexts of its calls: a
// tart whose end nobody waits for may never get the signal, or need another one.
func (c *Client) Settle(limit time.Duration) bool {
	c.calls.mu.Lock()
	n, none := c.calls.n, c.calls.none
	c.calls.mu.Unlock()
	if n == 0 {
		return true
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-none:
		return true
	case <-timer.C:
		return false
	}
}
