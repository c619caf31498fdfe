package certificates

import (
	"context"
	"crypto/x509"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"
)

// pace of each of the load's four callers.
const pace = 20 * time.Millisecond

// load is admission that goes on all the time: through the API server, which keeps its connections, and over new ones.
type load struct {
	stop context.CancelFunc
	done sync.WaitGroup

	mu sync.Mutex
	// served are the serving certificates of each replica in the order in which they were seen.
	served  [len(ports)][]*x509.Certificate
	asked   map[string]int
	dropped []string
}

func startLoad(t *testing.T) *load {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	l := &load{stop: stop, asked: map[string]int{}}
	l.call(ctx, "a pod", podIsChanged)
	l.call(ctx, "a namespace", namespaceIsRefused)
	for i := range ports {
		l.call(ctx, fmt.Sprintf("replica %d over a new connection", i), func(ctx context.Context) error {
			certificate, err := askedAnew(ctx, i)
			if err == nil {
				l.saw(i, certificate)
			}
			return err
		})
	}
	return l
}

func (l *load) call(ctx context.Context, what string, ask func(context.Context) error) {
	l.done.Go(func() {
		tick := time.NewTicker(pace)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			err := ask(ctx)
			if ctx.Err() != nil {
				return
			}
			l.mu.Lock()
			l.asked[what]++
			if err != nil {
				l.dropped = append(l.dropped, fmt.Sprintf("%s %s: %v", time.Now().Format("15:04:05.000"), what, err))
			}
			l.mu.Unlock()
		}
	})
}

func (l *load) saw(replica int, certificate *x509.Certificate) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.served[replica]); n == 0 || !l.served[replica][n-1].Equal(certificate) {
		l.served[replica] = append(l.served[replica], certificate)
	}
}

// seen are the certificates that a replica has served so far.
func (l *load) seen(replica int) []*x509.Certificate {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.served[replica])
}

// serving are the certificates that the replicas served last.
func (l *load) serving() (certificates []*x509.Certificate) {
	for i := range ports {
		if served := l.seen(i); len(served) > 0 {
			certificates = append(certificates, served[len(served)-1])
		}
	}
	return certificates
}

// nothingDropped ends the load: every admission has been answered by the webhook.
func (l *load) nothingDropped(t *testing.T) {
	t.Helper()
	l.stop()
	l.done.Wait()
	t.Logf("asked: %v; certificates seen: %d and %d", l.asked, len(l.served[0]), len(l.served[1]))
	for _, dropped := range l.dropped {
		t.Errorf("dropped: %s", dropped)
	}
}
